"""gguf_file.py: a GGUF v3 file of F32 tensors, written and read with nothing but struct and numpy.

Enough of the format for the demo model: strings, bools, 32-bit numbers and arrays of them as
metadata, F32 tensors as data. A matrix is stored row by row as [outputs, inputs]; GGUF lists its
dimensions the other way round, fastest first.
"""

import struct

import numpy as np

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
SCALARS = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q"}
TENSOR_F32 = 0
ALIGNMENT = 32


def encode_string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def encode_value(kind, value):
    """kind is a type number, or (ARRAY, element type)."""
    if isinstance(kind, tuple):
        element = kind[1]
        head = struct.pack("<IQ", element, len(value))
        return head + b"".join(encode_value(element, item) for item in value)
    if kind == STRING:
        return encode_string(value)
    return struct.pack(SCALARS[kind], value)


def write(path, metadata, tensors):
    """metadata: [(key, kind, value)], tensors: {name: float32 array}, both in file order."""
    out = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, kind, value in metadata:
        number = kind[0] if isinstance(kind, tuple) else kind
        out += [encode_string(key), struct.pack("<I", number), encode_value(kind, value)]

    offset = 0
    for name, array in tensors.items():
        dims = array.shape[::-1]
        out.append(encode_string(name) + struct.pack("<I", len(dims)))
        out.append(struct.pack("<%dQ" % len(dims), *dims))
        out.append(struct.pack("<IQ", TENSOR_F32, offset))
        offset += -(-array.size * 4 // ALIGNMENT) * ALIGNMENT

    header = b"".join(out)
    with open(path, "wb") as file:
        file.write(header + bytes(-len(header) % ALIGNMENT))
        for array in tensors.values():
            data = np.ascontiguousarray(array, dtype="<f4").tobytes()
            file.write(data + bytes(-len(data) % ALIGNMENT))


class Reader:
    """Walks the bytes of a file; each method takes one item and moves on."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def string(self):
        size = self.take("<Q")
        self.at += size
        return self.data[self.at - size : self.at].decode("utf-8")

    def value(self, kind):
        if kind == ARRAY:
            element, count = self.take("<I"), self.take("<Q")
            return [self.value(element) for _ in range(count)]
        return self.string() if kind == STRING else self.take(SCALARS[kind])


def read(path):
    """Returns ({key: value}, {name: float32 array}) of a file that write() could have written."""
    with open(path, "rb") as file:
        reader = Reader(file.read())
    if reader.data[:4] != b"GGUF":
        raise ValueError("%s: not a GGUF file" % path)
    reader.at = 4
    version, tensor_count, key_count = reader.take("<I"), reader.take("<Q"), reader.take("<Q")
    if version != 3:
        raise ValueError("%s: GGUF version %d, only 3 is read here" % (path, version))

    metadata = {}
    for _ in range(key_count):
        key = reader.string()
        metadata[key] = reader.value(reader.take("<I"))

    entries = []
    for _ in range(tensor_count):
        name = reader.string()
        dims = [reader.take("<Q") for _ in range(reader.take("<I"))]
        kind, offset = reader.take("<I"), reader.take("<Q")
        if kind != TENSOR_F32:
            raise ValueError("%s: tensor %s is of type %d, only F32 is read here" % (path, name, kind))
        entries.append((name, dims[::-1], offset))

    start = -(-reader.at // ALIGNMENT) * ALIGNMENT
    tensors = {}
    for name, shape, offset in entries:
        flat = np.frombuffer(reader.data, "<f4", int(np.prod(shape)), start + offset)
        tensors[name] = flat.reshape(shape)
    return metadata, tensors
