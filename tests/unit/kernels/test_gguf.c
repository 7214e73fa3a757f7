/* test_gguf.c: a good file is read as it was written; a bad one is refused in one sentence. */
#include "kernels/model/gguf.h"

#include "heard.h"
#include "tiny_gguf.h"
#include "tests/unit/shared.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define HUGE_COUNT (UINT64_MAX / 2)

static const float numbers[64] = {1.0f, -2.0f, 0.5f, 3.0f};

/* Keys of several types, nested arrays, two tensors: all that a reader can trip over. */
static struct buffer small_file(uint32_t alignment)
{
    struct gguf_writer writer = {.alignment = alignment};
    const uint64_t dim[2] = {32, 2};

    writer_u32(&writer, "a.u32", 77);
    writer_f32(&writer, "b.f32", 0.25f);
    writer_bool(&writer, "c.bool", true);
    writer_text(&writer, "d.text", "words");
    writer_array(&writer, "e.texts", GGUF_TEXT, 3);
    writer_add_text(&writer.keys, "x", 1);
    writer_add_text(&writer.keys, "", 0);
    writer_add_text(&writer.keys, "yz", 2);
    writer_array(&writer, "f.floats", GGUF_F32, 2);
    buffer_add(&writer.keys, numbers, 8);
    writer_array(&writer, "g.nested", GGUF_ARRAY, 1);
    buffer_add(&writer.keys, "\x07\0\0\0\x02\0\0\0\0\0\0\0\x01\x00", 14); /* two bools */
    writer_key(&writer, "h.i8", GGUF_I8);
    buffer_add_byte(&writer.keys, (char)-3);
    writer_tensor(&writer, "first", TENSOR_Q8_0, 2, dim, numbers);
    writer_tensor(&writer, "second", TENSOR_F32, 1, (const uint64_t[]){3}, numbers);
    return writer_finish(&writer);
}

static void test_a_file_is_read_as_it_was_written(void **state)
{
    struct buffer file = small_file(64);
    struct gguf *gguf;
    struct gguf_array array;
    const struct gguf_tensor *tensor;
    struct slice text;
    uint32_t number;
    float real;
    bool truth;

    (void)state;
    assert_int_equal(gguf_parse("small", file.data, file.len, &gguf), ERR_OK);
    assert_int_equal(gguf_u32(gguf, "a.u32", &number), ERR_OK);
    assert_int_equal(number, 77);
    assert_int_equal(gguf_f32(gguf, "b.f32", &real), ERR_OK);
    assert_true(real == 0.25f);
    assert_int_equal(gguf_bool(gguf, "c.bool", &truth), ERR_OK);
    assert_true(truth);
    assert_int_equal(gguf_text(gguf, "d.text", &text), ERR_OK);
    assert_int_equal(text.len, 5);
    assert_memory_equal(text.data, "words", 5);
    assert_int_equal(gguf_array(gguf, "e.texts", GGUF_TEXT, &array), ERR_OK);
    assert_int_equal(array.len, 3);
    assert_int_equal(gguf_array_next(&array).len, 1);
    assert_int_equal(gguf_array_next(&array).len, 0);
    assert_memory_equal(gguf_array_next(&array).data, "yz", 2);
    assert_int_equal(gguf_array(gguf, "f.floats", GGUF_F32, &array), ERR_OK);
    assert_true(gguf_array_f32(&array, 1) == -2.0f);
    assert_int_equal(gguf_u32(gguf, "absent", &number), ERR_NOT_FOUND);

    assert_int_equal(gguf_tensors(gguf), 2);
    tensor = gguf_find(gguf, "second");
    assert_non_null(tensor);
    assert_int_equal(tensor->bytes, 12);
    assert_memory_equal(tensor->data, numbers, 12);
    assert_int_equal(((const char *)tensor->data - file.data) % 64, 0);
    assert_int_equal(gguf_find(gguf, "first")->bytes, 68);
    assert_null(gguf_find(gguf, "third"));
    gguf_close(gguf);
    buffer_release(&file);
}

/* A key of another type than asked for is an error of the file, and is named. */
static void test_a_key_of_the_wrong_type_is_named(void **state)
{
    struct buffer file = small_file(0);
    struct gguf *gguf;
    struct slice text;
    uint32_t number;

    (void)state;
    assert_int_equal(gguf_parse("small", file.data, file.len, &gguf), ERR_OK);
    heard_start();
    assert_int_equal(gguf_u32(gguf, "d.text", &number), ERR_MODEL);
    assert_non_null(strstr(heard(), "d.text"));
    assert_int_equal(gguf_u32(gguf, "h.i8", &number), ERR_MODEL);
    assert_non_null(strstr(heard(), "out of range"));
    assert_int_equal(gguf_text(gguf, "e.texts", &text), ERR_MODEL);
    assert_non_null(strstr(heard(), "an array of text"));
    heard_stop();
    gguf_close(gguf);
    buffer_release(&file);
}

/* Reads every byte that the file gives out, so that a sanitizer sees a bad pointer. */
static uint32_t touch(const struct gguf *gguf)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < gguf_tensors(gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor(gguf, i);

        for (uint64_t byte = 0; byte < tensor->bytes; byte++)
            sum += ((const uint8_t *)tensor->data)[byte];
    }
    return sum;
}

/* A copy of exactly `len` bytes, so that reading past them is seen. */
static enum err parse_copy(const char *data, size_t len, struct gguf **ret, char **copy)
{
    *copy = malloc(len > 0 ? len : 1);
    memcpy(*copy, data, len);
    return gguf_parse("cut.gguf", *copy, len, ret);
}

static void test_every_truncation_is_refused_with_a_sentence(void **state)
{
    struct buffer file = small_file(0);
    struct gguf *gguf;
    char *copy;

    (void)state;
    heard_start();
    for (size_t len = 0; len < file.len; len++) {
        assert_int_equal(parse_copy(file.data, len, &gguf, &copy), ERR_MODEL);
        assert_non_null(strstr(heard(), "model cut.gguf: byte "));
        free(copy);
    }
    heard_stop();
    buffer_release(&file);
}

static void test_every_flipped_byte_is_refused_or_harmless(void **state)
{
    static const uint8_t masks[] = {0x01, 0x02, 0x08, 0x40, 0x80, 0xff};
    struct buffer file = small_file(0);
    unsigned refused = 0;

    (void)state;
    heard_start();
    for (size_t at = 0; at < file.len; at++)
        for (size_t i = 0; i < sizeof(masks); i++) {
            struct gguf *gguf;
            char *copy;

            file.data[at] = (char)((uint8_t)file.data[at] ^ masks[i]);
            if (parse_copy(file.data, file.len, &gguf, &copy) == ERR_OK) {
                touch(gguf);
                gguf_close(gguf);
            } else {
                assert_non_null(strstr(heard(), "model cut.gguf: "));
                refused++;
            }
            free(copy);
            file.data[at] = (char)((uint8_t)file.data[at] ^ masks[i]);
        }
    heard_stop();
    assert_true(refused > 500);
    buffer_release(&file);
}

/* Puts `len` bytes at the first place where `find` stands. */
static void overwrite(struct buffer *file, const char *find, size_t after, const void *bytes,
                      size_t len)
{
    char *at = memmem(file->data, file->len, find, strlen(find));

    assert_non_null(at);
    memcpy(at + after, bytes, len);
}

static void expect_refusal(struct buffer *file, const char *sentence)
{
    struct gguf *gguf;
    const char *said;

    heard_start();
    assert_int_equal(gguf_parse("bad", file->data, file->len, &gguf), ERR_MODEL);
    said = heard();
    heard_stop();
    if (strstr(said, sentence) == NULL)
        fail_msg("said %s instead of %s", said, sentence);
    buffer_release(file);
}

/* What a hostile file may claim, by name: counts, sizes, types, names, places. */
static void test_lies_are_refused_by_name(void **state)
{
    static const struct {
        const char *find;
        size_t after;
        uint64_t number;
        size_t size;
        const char *sentence;
    } lies[] = {
        {"GGUF", 0, 0x4d4c4747, 4, "not a GGUF file"},
        {"GGUF", 4, 2, 4, "version 2 is not supported"},
        {"GGUF", 4, 0x03000000, 4, "a big-endian file"},
        {"GGUF", 8, HUGE_COUNT, 8, "the number of tensors is"},
        {"GGUF", 16, 60000, 8, "more than the file can hold"},
        {"a.u32", 5, 13, 4, "value type 13 is unknown"},
        {"b.f32", 0, 0, 0, "stands twice"},
        {"c.bool", 10, 2, 1, "a bool is 2"},
        {"d.text", 10, HUGE_COUNT, 8, "the file ends inside a text"},
        {"e.texts", 15, HUGE_COUNT, 8, "the file ends inside an array"},
        {"f.floats", 16, HUGE_COUNT, 8, "the file ends inside a value"},
        {"first", 5, 0, 4, "has 0 dimensions"},
        {"first", 5, 5, 4, "has 5 dimensions"},
        {"first", 9, 0, 8, "dimension 0 is 0"},
        {"first", 9, 31, 8, "not whole Q8_0 blocks"},
        {"first", 25, 14, 4, "format Q6_K (14), which is not supported"},
        {"first", 25, 99, 4, "format unknown (99)"},
        {"first", 29, 8, 8, "no multiple of 32"},
        {"second", 22, 64, 8, "overlap"},
        {"second", 22, 4096, 8, "the data section"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct buffer file = small_file(0);

        if (lies[i].size > 0)
            overwrite(&file, lies[i].find, lies[i].after, &lies[i].number, lies[i].size);
        else
            overwrite(&file, lies[i].find, 0, "a.u32", 5);
        expect_refusal(&file, lies[i].sentence);
    }
}

static void test_a_tensor_named_twice_is_refused(void **state)
{
    struct gguf_writer writer = {0};
    struct buffer file;

    (void)state;
    for (int i = 0; i < 2; i++)
        writer_tensor(&writer, "same", TENSOR_F32, 1, (const uint64_t[]){4}, numbers);
    file = writer_finish(&writer);
    expect_refusal(&file, "tensor same stands twice");
}

static void test_dimensions_whose_product_overflows_are_refused(void **state)
{
    const uint64_t wide = (uint64_t)1 << 33;
    struct gguf_writer writer = {0};
    struct buffer file;

    (void)state;
    writer_tensor(&writer, "wide", TENSOR_F32, 2, (const uint64_t[]){1, 1}, numbers);
    file = writer_finish(&writer);
    overwrite(&file, "wide", 8, &wide, 8);
    overwrite(&file, "wide", 16, &wide, 8);
    expect_refusal(&file, "dimension 1 is 8589934592");
}

static void test_deep_nesting_is_refused_without_recursing(void **state)
{
    struct gguf_writer writer = {0};
    struct buffer file;

    (void)state;
    writer_array(&writer, "deep", GGUF_ARRAY, 1);
    for (int i = 0; i < 100000; i++)
        buffer_add(&writer.keys, "\x09\0\0\0\x01\0\0\0\0\0\0\0", 12);
    file = writer_finish(&writer);
    expect_refusal(&file, "nested more than 4 deep");
}

static void test_alignment_is_a_power_of_two_in_bounds(void **state)
{
    static const uint32_t bad[] = {0, 1, 4, 24, 131072};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct gguf_writer writer = {0};
        struct buffer file;

        writer_u32(&writer, "general.alignment", bad[i]);
        file = writer_finish(&writer);
        expect_refusal(&file, "not a power of two from 8");
    }
}

/* What a terminal would obey comes out escaped. */
static void test_names_in_messages_are_escaped(void **state)
{
    struct gguf_writer writer = {0};
    struct buffer file;

    (void)state;
    for (int i = 0; i < 2; i++)
        writer_u32(&writer, "x\x1b[2J\nts=0", 1);
    file = writer_finish(&writer);
    expect_refusal(&file, "stands twice");
    assert_null(strchr(heard_text, '\x1b'));
    assert_ptr_equal(strchr(heard_text, '\n'), heard_text + strlen(heard_text) - 1);
}

static void test_a_path_that_is_no_model_is_refused(void **state)
{
    struct gguf *gguf;

    (void)state;
    heard_start();
    assert_int_equal(gguf_open("/nonexistent/model.gguf", &gguf), ERR_MODEL);
    assert_non_null(strstr(heard(), "No such file"));
    assert_int_equal(gguf_open("/tmp", &gguf), ERR_MODEL);
    assert_non_null(strstr(heard(), "/tmp"));
    assert_int_equal(gguf_open("/dev/null", &gguf), ERR_MODEL);
    assert_non_null(strstr(heard(), "not a file"));
    heard_stop();
}

static void test_files_of_other_makers_are_read(void **state)
{
    static const char *const names[] = {
        "vocab/ggml-vocab-phi-3.gguf", "vocab/ggml-vocab-gpt-2.gguf",
        "vocab/ggml-vocab-falcon.gguf", "vocab/ggml-vocab-bert-bge.gguf",
        "models/derived/stories260K.f32.gguf"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *path = shared_path(names[i]);
        struct gguf *gguf;
        struct slice text;

        if (path == NULL)
            skip();
        assert_int_equal(gguf_open(path, &gguf), ERR_OK);
        assert_int_equal(gguf_text(gguf, "general.architecture", &text), ERR_OK);
        assert_int_equal(gguf_tensors(gguf), i == 4 ? 48 : 0);
        touch(gguf);
        gguf_close(gguf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_is_read_as_it_was_written),
        cmocka_unit_test(test_a_key_of_the_wrong_type_is_named),
        cmocka_unit_test(test_every_truncation_is_refused_with_a_sentence),
        cmocka_unit_test(test_every_flipped_byte_is_refused_or_harmless),
        cmocka_unit_test(test_lies_are_refused_by_name),
        cmocka_unit_test(test_a_tensor_named_twice_is_refused),
        cmocka_unit_test(test_dimensions_whose_product_overflows_are_refused),
        cmocka_unit_test(test_deep_nesting_is_refused_without_recursing),
        cmocka_unit_test(test_alignment_is_a_power_of_two_in_bounds),
        cmocka_unit_test(test_names_in_messages_are_escaped),
        cmocka_unit_test(test_a_path_that_is_no_model_is_refused),
        cmocka_unit_test(test_files_of_other_makers_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
