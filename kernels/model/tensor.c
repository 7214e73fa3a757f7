/* tensor.c: F32, F16, BF16 and Q8_0, little-endian, as floats. All conversions are exact but Q8_0's
 * product, which is rounded once. */
#include "kernels/model/tensor.h"

#include <stddef.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "model files are read in place");

static uint16_t load16(const uint8_t *data)
{
    uint16_t value;

    memcpy(&value, data, sizeof(value));
    return value;
}

static float float_of(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

float tensor_half(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16;
    uint32_t exponent = (bits >> 10) & 0x1fu;
    uint32_t fraction = bits & 0x3ffu;

    if (exponent == 0x1f)
        return float_of(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) {
        float tiny = (float)fraction * 0x1p-24f;

        return sign != 0 ? -tiny : tiny;
    }
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

static void f32_to_f32(const uint8_t *data, uint64_t len, float *ret)
{
    memcpy(ret, data, len * sizeof(float));
}

static void f16_to_f32(const uint8_t *data, uint64_t len, float *ret)
{
    for (uint64_t i = 0; i < len; i++)
        ret[i] = tensor_half(load16(data + 2 * i));
}

static void bf16_to_f32(const uint8_t *data, uint64_t len, float *ret)
{
    for (uint64_t i = 0; i < len; i++)
        ret[i] = float_of((uint32_t)load16(data + 2 * i) << 16);
}

/* Blocks of 32: a half d, then 32 int8 q; x = d q. */
static void q8_0_to_f32(const uint8_t *data, uint64_t len, float *ret)
{
    for (uint64_t block = 0; block < len / 32; block++, data += 34) {
        float d = tensor_half(load16(data));

        for (int i = 0; i < 32; i++)
            ret[32 * block + (uint64_t)i] = d * (float)(int8_t)data[2 + i];
    }
}

/* Names of the others are here so that a refusal can say what the file holds. */
static const struct tensor_format formats[] = {
    {"F32", TENSOR_F32, 1, 4, f32_to_f32},
    {"F16", TENSOR_F16, 1, 2, f16_to_f32},
    {"Q8_0", TENSOR_Q8_0, 32, 34, q8_0_to_f32},
    {"BF16", TENSOR_BF16, 1, 2, bf16_to_f32},
    {.name = "Q4_0", .type = 2},
    {.name = "Q4_1", .type = 3},
    {.name = "Q5_0", .type = 6},
    {.name = "Q5_1", .type = 7},
    {.name = "Q8_1", .type = 9},
    {.name = "Q2_K", .type = 10},
    {.name = "Q3_K", .type = 11},
    {.name = "Q4_K", .type = 12},
    {.name = "Q5_K", .type = 13},
    {.name = "Q6_K", .type = 14},
    {.name = "Q8_K", .type = 15},
    {.name = "IQ2_XXS", .type = 16},
    {.name = "IQ2_XS", .type = 17},
    {.name = "IQ3_XXS", .type = 18},
    {.name = "IQ1_S", .type = 19},
    {.name = "IQ4_NL", .type = 20},
    {.name = "IQ3_S", .type = 21},
    {.name = "IQ2_S", .type = 22},
    {.name = "IQ4_XS", .type = 23},
    {.name = "I8", .type = 24},
    {.name = "I16", .type = 25},
    {.name = "I32", .type = 26},
    {.name = "I64", .type = 27},
    {.name = "F64", .type = 28},
    {.name = "IQ1_M", .type = 29},
    {.name = "TQ1_0", .type = 34},
    {.name = "TQ2_0", .type = 35},
    {.name = "MXFP4", .type = 39},
};

const struct tensor_format *tensor_format(uint32_t type)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (formats[i].type == type)
            return &formats[i];
    return NULL;
}
