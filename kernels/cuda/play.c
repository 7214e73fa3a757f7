/*
 * play.c: a decode step of so many padded rows is the same launches every time, so they are recorded
 * once and launched as one. What changes stands in the images.
 */
#include "kernels/cuda/cuda.h"

static struct gpu_graph *find(const struct play *play, const struct play_key *key)
{
    for (uint32_t i = 0; i < play->len; i++) {
        const struct play_key *known = &play->known[i].key;

        if (known->phase == key->phase && known->rows == key->rows && known->kinds == key->kinds)
            return play->known[i].graph;
    }
    return NULL;
}

void play_open(struct backend *backend, const struct play_key *key, bool graph)
{
    struct play *play = &backend->play;

    play->mode = PLAY_NOW;
    if (!graph || backend->eager)
        return;
    play->key = *key;
    play->graph = find(play, key);
    if (play->graph != NULL) {
        play->mode = PLAY_REPLAY;
    } else if (play->len < PLAY_GRAPHS_MAX) {
        play->mode = PLAY_RECORD;
        backend->module->capture_begin(backend->gpu);
    }
}

void play_close(struct backend *backend)
{
    struct play *play = &backend->play;

    if (play->mode == PLAY_RECORD) {
        play->graph = backend->module->capture_end(backend->gpu);
        if (play->graph != NULL) {
            play->known[play->len].key = play->key;
            play->known[play->len++].graph = play->graph;
        }
    }
    if (play->mode == PLAY_REPLAY)
        play->replayed++;
    if (play->mode != PLAY_NOW && play->graph != NULL)
        backend->module->graph_launch(backend->gpu, play->graph);
    play->mode = PLAY_NOW;
}
