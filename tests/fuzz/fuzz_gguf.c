/* fuzz_gguf.c: any bytes are a model file, or are refused; nothing outside of them is read. */
#include "kernels/model/model.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *gguf;
    struct model *model;
    volatile uint8_t sum = 0;

    if (gguf_parse("fuzz", data, size, &gguf) != ERR_OK)
        return 0;
    for (uint32_t i = 0; i < gguf_tensors(gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor(gguf, i);
        const uint8_t *bytes = tensor->data;

        for (uint64_t at = 0; at < tensor->bytes; at += 1 + tensor->bytes / 64)
            sum = (uint8_t)(sum + bytes[at] + bytes[tensor->bytes - 1]);
    }
    if (model_new(gguf, &model) == ERR_OK) /* closes gguf, now or below */
        model_close(model);
    return 0;
}
