/* test_model.c: keys and tensors of a model agree with each other, or one sentence says which do not. */
#include "kernels/model/model.h"

#include "config/sha256.h"
#include "heard.h"
#include "tiny_gguf.h"
#include "tests/unit/shared.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static enum err open_file(const struct buffer *file, struct model **ret)
{
    struct gguf *gguf;
    enum err err = gguf_parse("tiny.gguf", file->data, file->len, &gguf);

    return err ? err : model_new(gguf, ret);
}

static void test_a_model_is_described_as_its_file_does(void **state)
{
    const struct tiny_options options = {.heads = 6,
                                         .kv_heads = 3,
                                         .head_dim = 10,
                                         .embed = 32,
                                         .key_length = true,
                                         .rope_dim = 4,
                                         .untied = true,
                                         .rope_freqs = true,
                                         .chat_template = "plain"};
    struct buffer file = tiny_llama(&options);
    struct engine_model about = {0};
    struct model *model;

    (void)state;
    assert_int_equal(open_file(&file, &model), ERR_OK);
    assert_int_equal(model->hyper.head_dim, 10);
    assert_int_equal(model->hyper.rope_dim, 4);
    assert_int_equal(model->hyper.kv_heads, 3);
    assert_int_equal(model->hyper.vocab, 320);
    assert_ptr_not_equal(model->output, model->token_embd);
    assert_non_null(model->rope_freqs);
    model_describe(model, &about);
    assert_string_equal(about.name, "tiny");
    assert_string_equal(about.chat_format, "plain");
    assert_int_equal(about.vocab, 320);
    assert_int_equal(about.context_max, 256);
    assert_int_equal(about.embedding_len, 32);
    model_close(model);
    buffer_release(&file);
}

/* What the file leaves out follows from the rest. */
static void test_defaults_follow_from_what_is_said(void **state)
{
    struct buffer file =
        tiny_llama(&(struct tiny_options){.heads = 4, .embed = 48, .head_dim = 12});
    struct model *model;

    (void)state;
    assert_int_equal(open_file(&file, &model), ERR_OK);
    assert_int_equal(model->hyper.head_dim, 12);
    assert_int_equal(model->hyper.rope_dim, 12);
    assert_ptr_equal(model->output, model->token_embd);
    assert_null(model->rope_freqs);
    assert_null(model->chat);
    model_close(model);
    buffer_release(&file);
}

/* Replaces a text of the file by one of the same length. */
static void rename_in(struct buffer *file, const char *from, const char *to)
{
    char *at = memmem(file->data, file->len, from, strlen(from));

    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
}

static void set_u32(struct buffer *file, const char *key, uint32_t value)
{
    char *at = memmem(file->data, file->len, key, strlen(key));

    assert_non_null(at);
    memcpy(at + strlen(key) + 4, &value, sizeof(value));
}

static void expect_refusal(struct buffer *file, const char *sentence)
{
    struct model *model;
    const char *said;

    heard_start();
    assert_int_equal(open_file(file, &model), ERR_MODEL);
    said = heard();
    heard_stop();
    if (strstr(said, sentence) == NULL)
        fail_msg("said %s instead of %s", said, sentence);
    buffer_release(file);
}

static void test_keys_out_of_range_are_refused_by_name(void **state)
{
    static const struct {
        const char *key;
        uint32_t value;
        const char *sentence;
    } lies[] = {
        {"llama.block_count", 0, "block_count is 0, not 1 to 1024"},
        {"llama.block_count", 3, "the tensor blk.2.attn_norm.weight is missing"},
        {"llama.block_count", 1, "blk.1.attn_norm.weight has no place"},
        {"llama.embedding_length", 0xffffffff, "embedding_length is 4294967295"},
        {"llama.embedding_length", 64, "tensor token_embd.weight is of 2 dimensions, 32 x 320"},
        {"llama.embedding_length", 31, "cannot be split over 4 heads"},
        {"llama.feed_forward_length", 65, "tensor blk.0.ffn_gate.weight"},
        {"llama.attention.head_count", 0, "head_count is 0"},
        {"llama.attention.head_count", 8, "tensor blk.0.attn_k.weight"},
        {"llama.attention.head_count_kv", 3, "4 query heads cannot share 3"},
        {"llama.attention.head_count_kv", 1, "tensor blk.0.attn_k.weight"},
        {"llama.attention.layer_norm_rms_epsilon", 0x7fc00000, "rms_epsilon is nan"},
        {"llama.attention.layer_norm_rms_epsilon", 0, "rms_epsilon is 0"},
        {"llama.rope.freq_base", 0xff800000, "freq_base is -inf"},
        {"llama.rope.dimension_count", 5, "5 dimensions cannot be rotated in heads of 8"},
        {"llama.rope.dimension_count", 10, "10 dimensions cannot be rotated in heads of 8"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct buffer file = tiny_llama(&(struct tiny_options){.rope_dim = 4});

        set_u32(&file, lies[i].key, lies[i].value);
        expect_refusal(&file, lies[i].sentence);
    }
}

static void test_missing_and_foreign_parts_are_refused_by_name(void **state)
{
    static const struct {
        const char *from;
        const char *to;
        const char *sentence;
    } lies[] = {
        {"general.architecture", "general.xrchitecture", "is not supported; llama is"},
        {"llama.context_length", "xlama.context_length", "llama.context_length is missing"},
        {"layer_norm_rms_epsilon", "layer_norm_xms_epsilon", "rms_epsilon is missing"},
        {"token_embd.weight", "token_embx.weight", "token_embd.weight is missing"},
        {"output_norm.weight", "outputxnorm.weight", "output_norm.weight is missing"},
        {"blk.1.attn_q.weight", "blk.1.attn_q.biasxx", "blk.1.attn_q.weight is missing"},
        {"rope_freqs.weight", "rope_freqs.weighx", "rope_freqs.weighx has no place"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct buffer file = tiny_llama(&(struct tiny_options){.rope_freqs = true});

        rename_in(&file, lies[i].from, lies[i].to);
        expect_refusal(&file, lies[i].sentence);
    }
}

/* The numbers of rope_freqs.weight divide angles: zero, tiny and NaN are refused. */
static void test_rope_divisors_are_bounded(void **state)
{
    static const float bad[] = {0.0f, 0.1f, -1.0f, NAN, INFINITY};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct buffer file = tiny_llama(&(struct tiny_options){.rope_freqs = true});

        /* The last tensor of the file: 1, 1.75, 2.5, 3.25. */
        memcpy(file.data + file.len - 4, &bad[i], 4);
        expect_refusal(&file, "rope_freqs.weight[3] is ");
    }
}

/*
 * A file that says neither attention.key_length nor rope.dimension_count: how long its heads are
 * follows from embed and heads, each of which may be anything within its own limits.
 */
static struct buffer heads_of(uint32_t embed, uint32_t heads)
{
    const uint64_t norm = embed, freqs = embed / heads / 2 > 0 ? embed / heads / 2 : 1;
    const uint64_t table[2] = {embed, 290};
    struct gguf_writer writer = {0};
    float *value = xcalloc((size_t)table[0] * table[1], sizeof(*value));

    for (uint64_t i = 0; i < table[0] * table[1]; i++)
        value[i] = 1.0f;
    writer_text(&writer, "general.architecture", "llama");
    writer_u32(&writer, "llama.block_count", 1);
    writer_u32(&writer, "llama.embedding_length", embed);
    writer_u32(&writer, "llama.feed_forward_length", 32);
    writer_u32(&writer, "llama.context_length", 32);
    writer_u32(&writer, "llama.attention.head_count", heads);
    writer_f32(&writer, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    tiny_vocabulary(&writer, 290, 0);
    writer_tensor(&writer, "token_embd.weight", TENSOR_F16, 2, table, value);
    writer_tensor(&writer, "output_norm.weight", TENSOR_F32, 1, &norm, value);
    writer_tensor(&writer, "rope_freqs.weight", TENSOR_F32, 1, &freqs, value);
    free(value);
    return writer_finish(&writer);
}

/*
 * Limits hold for what follows from the keys as for what they say: 4096 divisors of positions would
 * otherwise be written where 512 have room. The heads of the last two are as long and as short as
 * heads may be.
 */
static void test_lengths_that_follow_from_keys_are_bounded(void **state)
{
    static const struct {
        uint32_t embed, heads;
        const char *sentence;
    } files[] = {
        {8192, 1, "heads of 8192 dimensions are not supported; those of 2 to 1024 are"},
        {1026, 1, "heads of 1026 dimensions"},
        {8, 8, "heads of 1 dimensions"},
        {4, 8, "cannot be split over 8 heads"},
        {6, 2, "3 dimensions cannot be rotated in heads of 3"},
        {2048, 2, "the tensor blk.0.attn_norm.weight is missing"},
        {16, 8, "the tensor blk.0.attn_norm.weight is missing"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        struct buffer file = heads_of(files[i].embed, files[i].heads);

        expect_refusal(&file, files[i].sentence);
    }
}

static void write_value(struct gguf_writer *writer, const char *key, char type, float value)
{
    if (type == 'u')
        writer_u32(writer, key, (uint32_t)value);
    else if (type == 'f')
        writer_f32(writer, key, value);
    else
        writer_bool(writer, key, value != 0);
}

/* A file that is refused for its lack of tensors, unless it is for what `key` says. */
static struct buffer variant_of(const char *architecture, const char *scaling, const char *key,
                                char type, float value)
{
    struct gguf_writer writer = {0};

    writer_text(&writer, "general.architecture", architecture);
    writer_u32(&writer, "llama.block_count", 1);
    writer_u32(&writer, "llama.embedding_length", 32);
    writer_u32(&writer, "llama.feed_forward_length", 32);
    writer_u32(&writer, "llama.context_length", 32);
    writer_u32(&writer, "llama.attention.head_count", 2);
    writer_f32(&writer, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    if (scaling != NULL)
        writer_text(&writer, "llama.rope.scaling.type", scaling);
    if (key != NULL)
        write_value(&writer, key, type, value);
    return writer_finish(&writer);
}

/* A file that would be computed differently elsewhere is not computed here. */
static void test_variants_that_are_not_implemented_are_refused(void **state)
{
    static const char passes[] = "it holds a vocabulary and no weights";
    static const struct {
        const char *architecture, *scaling, *key;
        char type;
        float value;
        const char *sentence;
    } files[] = {
        {"qwen2", NULL, NULL, 'u', 0, "qwen2"},
        {"llama", "yarn", NULL, 'u', 0, "rope scaling of type yarn"},
        {"llama", "none", NULL, 'u', 0, passes},
        {"llama", NULL, "llama.rope.scaling.factor", 'f', 4, "scaling.factor is 4: scaling of"},
        {"llama", NULL, "llama.rope.scaling.factor", 'f', NAN, "scaling.factor is nan"},
        {"llama", NULL, "llama.rope.scaling.factor", 'u', 4, "is u32, not a float"},
        {"llama", NULL, "llama.rope.scaling.factor", 'f', 1, passes},
        {"llama", NULL, "llama.rope.scaling.factor", 'f', 0, passes},
        {"llama", "none", "llama.rope.scaling.factor", 'f', 4, passes},
        {"llama", NULL, "llama.rope.scale_linear", 'f', 0.5f, "scale_linear is 0.5: scaling of"},
        {"llama", NULL, "llama.rope.scale_linear", 'f', 1, passes},
        {"llama", "none", "llama.rope.scaling.attn_factor", 'f', 2, "attn_factor is 2: scaling"},
        {"llama", NULL, "llama.attention.causal", 'b', 0, "causal is 0: attention to later"},
        {"llama", NULL, "llama.attention.causal", 'b', 1, passes},
        {"llama", NULL, "llama.attention.sliding_window", 'u', 4096, "sliding_window is 4096"},
        {"llama", NULL, "llama.attention.max_alibi_bias", 'f', 8, "max_alibi_bias is 8"},
        {"llama", NULL, "llama.attention.clamp_kqv", 'f', 6, "clamp_kqv is 6"},
        {"llama", NULL, "llama.use_parallel_residual", 'b', 1, "use_parallel_residual is 1"},
        {"llama", NULL, "llama.expert_count", 'u', 8, "expert_count is 8: a mixture of experts"},
        {"llama", NULL, "llama.expert_count", 'u', 0, passes},
        {"llama", NULL, "llama.pooling_type", 'u', 3, "pooling_type is 3: pooling other than"},
        {"llama", NULL, "llama.pooling_type", 'u', 1, passes},
        {"llama", NULL, "llama.attention.value_length", 'u', 4, "values of length 4"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        struct buffer file = variant_of(files[i].architecture, files[i].scaling, files[i].key,
                                        files[i].type, files[i].value);

        expect_refusal(&file, files[i].sentence);
    }
}

/* Any byte of the header changed: a refusal, or a model whose every tensor can be read. */
static void test_flipped_bytes_are_refused_or_harmless(void **state)
{
    struct buffer file = tiny_llama(&(struct tiny_options){.layers = 1, .vocab = 290});
    const char *last = memmem(file.data, file.len, "output_norm.weight", 18);
    size_t header = (size_t)(last - file.data);
    unsigned refused = 0;

    (void)state;
    heard_start();
    for (size_t at = 0; at < header; at += 1 + at % 3) {
        struct model *model;

        file.data[at] ^= (char)(1 << at % 8);
        if (open_file(&file, &model) == ERR_OK) {
            volatile uint8_t sum = 0;

            for (uint32_t i = 0; i < gguf_tensors(model->gguf); i++) {
                const struct gguf_tensor *tensor = gguf_tensor(model->gguf, i);

                sum = (uint8_t)(sum + ((const uint8_t *)tensor->data)[tensor->bytes - 1]);
            }
            model_close(model);
        } else {
            assert_non_null(strstr(heard(), "model tiny.gguf: "));
            refused++;
        }
        file.data[at] ^= (char)(1 << at % 8);
    }
    heard_stop();
    assert_true(refused > 100);
    buffer_release(&file);
}

/* The settings name the file they mean; another one is refused with both digests. */
static void test_another_digest_than_wanted_is_refused(void **state)
{
    struct buffer file = tiny_llama(&(struct tiny_options){0});
    uint8_t digest[32], again[32];
    char hex[SHA256_HEX_SIZE];
    struct model *model;
    const char *said;

    (void)state;
    assert_int_equal(open_file(&file, &model), ERR_OK);
    assert_int_equal(model_digest(model, NULL, digest), ERR_OK);
    assert_int_equal(model_digest(model, hex_encode(digest, 32, hex), again), ERR_OK);
    assert_memory_equal(digest, again, 32);
    hex[0] = hex[0] == '0' ? '1' : '0';
    heard_start();
    assert_int_equal(model_digest(model, hex, again), ERR_MODEL);
    said = heard();
    assert_non_null(strstr(said, hex));
    assert_non_null(strstr(said, "the file's sha256 is "));
    assert_int_equal(model_digest(model, "12ab", again), ERR_SETTINGS);
    heard_stop();
    model_close(model);
    buffer_release(&file);
}

static void test_a_vocabulary_alone_is_no_model(void **state)
{
    const char *path = shared_path("models/derived/stories260K.f32.gguf");
    struct model *model;

    (void)state;
    if (path == NULL)
        skip();
    assert_int_equal(model_open(path, &model), ERR_OK);
    assert_int_equal(model->hyper.layers, 5);
    assert_int_equal(model->hyper.head_dim, 8);
    model_close(model);
    heard_start();
    assert_int_equal(model_open(shared_path("vocab/ggml-vocab-gpt-2.gguf"), &model), ERR_MODEL);
    assert_non_null(strstr(heard(), "gpt2"));
    heard_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_model_is_described_as_its_file_does),
        cmocka_unit_test(test_defaults_follow_from_what_is_said),
        cmocka_unit_test(test_keys_out_of_range_are_refused_by_name),
        cmocka_unit_test(test_missing_and_foreign_parts_are_refused_by_name),
        cmocka_unit_test(test_rope_divisors_are_bounded),
        cmocka_unit_test(test_lengths_that_follow_from_keys_are_bounded),
        cmocka_unit_test(test_variants_that_are_not_implemented_are_refused),
        cmocka_unit_test(test_flipped_bytes_are_refused_or_harmless),
        cmocka_unit_test(test_another_digest_than_wanted_is_refused),
        cmocka_unit_test(test_a_vocabulary_alone_is_no_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
