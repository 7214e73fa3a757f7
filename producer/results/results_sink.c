/* results_sink.c: a buffer, a compressor, a stream. */
#include "producer/results/results_sink.h"
#include "config/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

enum { LEVEL = 3 };

void results_sink_init(struct results_sink *sink, FILE *out, bool compress)
{
    *sink = (struct results_sink){.out = out};
    if (!compress)
        return;
    sink->zstd = ZSTD_createCCtx();
    if (sink->zstd == NULL) {
        log_error("memory", "what=\"no memory to compress results\"");
        abort();
    }
    ZSTD_CCtx_setParameter(sink->zstd, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(sink->zstd, ZSTD_c_checksumFlag, 1);
}

void results_sink_release(struct results_sink *sink)
{
    ZSTD_freeCCtx(sink->zstd);
    buffer_release(&sink->lines);
    buffer_release(&sink->squeezed);
    *sink = (struct results_sink){0};
}

static enum err put(struct results_sink *sink, struct slice bytes)
{
    if (fwrite(bytes.data, 1, bytes.len, sink->out) == bytes.len)
        return ERR_OK;
    if (errno == EPIPE) {
        sink->stopped = true;
        return ERR_OK;
    }
    return fail(ERR_IO, "cannot write results: %s", strerror(errno));
}

static enum err squeeze(struct results_sink *sink, ZSTD_EndDirective how)
{
    ZSTD_inBuffer in = {sink->lines.data, sink->lines.len, 0};
    size_t left;

    buffer_clear(&sink->squeezed);
    do {
        char *at = buffer_reserve(&sink->squeezed, ZSTD_CStreamOutSize());
        ZSTD_outBuffer out = {at, ZSTD_CStreamOutSize(), 0};

        left = ZSTD_compressStream2(sink->zstd, &out, &in, how);
        if (ZSTD_isError(left))
            return fail(ERR_INTERNAL, "cannot compress results: %s", ZSTD_getErrorName(left));
        sink->squeezed.len += out.pos;
    } while (left > 0 || in.pos < in.size);
    return put(sink, buffer_slice(&sink->squeezed));
}

static enum err write_lines(struct results_sink *sink, ZSTD_EndDirective how)
{
    enum err rc = ERR_OK;

    if (!sink->stopped && sink->zstd != NULL)
        rc = squeeze(sink, how);
    else if (!sink->stopped)
        rc = put(sink, buffer_slice(&sink->lines));
    buffer_clear(&sink->lines);
    if (rc != ERR_OK || sink->stopped || fflush(sink->out) == 0)
        return rc;
    if (errno != EPIPE)
        return fail(ERR_IO, "cannot write results: %s", strerror(errno));
    sink->stopped = true;
    return ERR_OK;
}

enum err results_sink_flush(struct results_sink *sink)
{
    return sink->lines.len > 0 ? write_lines(sink, ZSTD_e_flush) : ERR_OK;
}

enum err results_sink_finish(struct results_sink *sink)
{
    return write_lines(sink, ZSTD_e_end);
}
