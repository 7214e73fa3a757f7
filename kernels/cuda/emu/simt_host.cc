/*
 * simt_host.cc: what threads give each other, and what they do with shared memory.
 *
 * What the hardware does by itself is hidden from the sanitizers (EMU_HARDWARE); what it does in a
 * thread's name is not: a lane reads its own row of a tile, and lands its own copies, so that races
 * and places out of bounds are seen.
 */
#include "kernels/cuda/emu/block.cuh"

#define SITE struct simt_site site = {file, line}

/* ---- threads that meet ---- */

void block_sync(const char *file, int line)
{
    SITE;
    struct simt_lane *lane = simt_lane_now();

    fiber_release(&lane->machine->barrier);
    simt_meet_block(lane, site);
    fiber_acquire(&lane->machine->barrier);
}

void warp_sync(const char *file, int line)
{
    SITE;
    struct simt_lane *lane = simt_lane_now();

    fiber_release(lane->warp);
    simt_meet_warp(lane, site, NULL);
    fiber_acquire(lane->warp);
}

/* Gives one word and gets that of `from`. Says nothing of memory, as on the card. */
EMU_HARDWARE static uint64_t exchange(uint64_t word, uint32_t from, struct simt_site site)
{
    struct simt_lane *lane = simt_lane_now();
    uint32_t parity = (lane->meetings + 1) & 1;

    if (from >= LANES)
        simt_die(lane, site, "there is no lane %u", from);
    lane->warp->slot[parity][lane->lane][0] = word;
    simt_meet_warp(lane, site, NULL);
    return lane->warp->slot[parity][from][0];
}

EMU_HARDWARE static uint32_t own_lane(void)
{
    return simt_lane_now()->lane;
}

float lane_xor(float value, uint32_t mask, const char *file, int line)
{
    SITE;
    return float_of(static_cast<uint32_t>(exchange(bits_of(value), own_lane() ^ mask, site)));
}

double lane_xor(double value, uint32_t mask, const char *file, int line)
{
    uint64_t word;

    memcpy(&word, &value, sizeof(word));
    word = lane_xor(word, mask, file, line);
    memcpy(&value, &word, sizeof(value));
    return value;
}

uint32_t lane_xor(uint32_t value, uint32_t mask, const char *file, int line)
{
    SITE;
    return static_cast<uint32_t>(exchange(value, own_lane() ^ mask, site));
}

uint64_t lane_xor(uint64_t value, uint32_t mask, const char *file, int line)
{
    SITE;
    return exchange(value, own_lane() ^ mask, site);
}

float lane_from(float value, uint32_t lane, const char *file, int line)
{
    SITE;
    return float_of(static_cast<uint32_t>(exchange(bits_of(value), lane, site)));
}

double lane_from(double value, uint32_t lane, const char *file, int line)
{
    uint64_t word;

    memcpy(&word, &value, sizeof(word));
    word = lane_from(word, lane, file, line);
    memcpy(&value, &word, sizeof(value));
    return value;
}

uint32_t lane_from(uint32_t value, uint32_t lane, const char *file, int line)
{
    SITE;
    return static_cast<uint32_t>(exchange(value, lane, site));
}

uint64_t lane_from(uint64_t value, uint32_t lane, const char *file, int line)
{
    SITE;
    return exchange(value, lane, site);
}

EMU_HARDWARE static uint32_t ballot(bool value, struct simt_site site)
{
    struct simt_lane *lane = simt_lane_now();
    uint32_t parity = (lane->meetings + 1) & 1, found = 0;

    lane->warp->slot[parity][lane->lane][0] = value;
    simt_meet_warp(lane, site, NULL);
    for (uint32_t i = 0; i < LANES; i++)
        found |= static_cast<uint32_t>(lane->warp->slot[parity][i][0]) << i;
    return found;
}

bool warp_any(bool value, const char *file, int line)
{
    SITE;
    return ballot(value, site) != 0;
}

uint32_t warp_ballot(bool value, const char *file, int line)
{
    SITE;
    return ballot(value, site);
}

/* ---- memory ---- */

void shared_add(uint32_t *at, uint32_t value, const char *file, int line)
{
    SITE;
    simt_check_shared(simt_lane_now(), at, sizeof(*at), site, "shared_add");
    __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

void shared_add(uint64_t *at, uint64_t value, const char *file, int line)
{
    SITE;
    simt_check_shared(simt_lane_now(), at, sizeof(*at), site, "shared_add");
    __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

static void check_aligned(const void *at, struct simt_site site, const char *word)
{
    if (reinterpret_cast<uintptr_t>(at) % sizeof(struct quad) != 0)
        simt_die(simt_lane_now(), site, "%s at a place that is not aligned to 16 bytes", word);
}

struct quad load_16(const void *from, const char *file, int line)
{
    SITE;
    check_aligned(from, site, "load_16");
    return *static_cast<const struct quad *>(from);
}

void store_16(void *to, struct quad value, const char *file, int line)
{
    SITE;
    check_aligned(to, site, "store_16");
    *static_cast<struct quad *>(to) = value;
}

/* ---- asynchronous copies ---- */

static void land(const struct simt_copy *copy)
{
    static const struct quad zeros = {{0, 0, 0, 0}};

    *static_cast<struct quad *>(copy->to) =
        copy->from != NULL ? *static_cast<const struct quad *>(copy->from) : zeros;
}

void copy_16(void *to, const void *from, bool ok, const char *file, int line)
{
    SITE;
    struct simt_lane *lane = simt_lane_now();
    struct simt_copy *copy = &lane->copy[(lane->copy_first + lane->copy_count) % COPIES_MAX];

    simt_check_shared(lane, to, sizeof(struct quad), site, "copy_16");
    check_aligned(from, site, "copy_16");
    if (lane->copy_count == COPIES_MAX)
        simt_die(lane, site, "more than %d copies of one thread are under way", COPIES_MAX);
    copy->to = to;
    copy->from = ok ? from : NULL;
    copy->group = lane->closed;
    lane->copy_count++;
    if (lane->machine->copies_late)
        memset(to, 0xff, sizeof(struct quad)); /* what was there is gone, what comes is not there */
    else
        land(copy);
}

void copies_commit()
{
    simt_lane_now()->closed++;
}

void simt_copies_wait(uint32_t open)
{
    struct simt_lane *lane = simt_lane_now();

    while (lane->closed - lane->landed > open) {
        while (lane->copy_count > 0 && lane->copy[lane->copy_first].group == lane->landed) {
            if (lane->machine->copies_late)
                land(&lane->copy[lane->copy_first]);
            lane->copy_first = (lane->copy_first + 1) % COPIES_MAX;
            lane->copy_count--;
        }
        lane->landed++;
    }
}

/* ---- tiles ---- */

/* Gives the row that this lane names, and gets a row of each tile by `pick`. */
EMU_HARDWARE static void give_row(const struct quad *row)
{
    struct simt_lane *lane = simt_lane_now();

    memcpy(lane->warp->slot[(lane->meetings + 1) & 1][lane->lane], row, sizeof(*row));
}

/* Lane l gets numbers 2 (l % 4) and the next of row l / 4 of each tile. */
EMU_HARDWARE static void take_tiles(uint32_t out[4], struct simt_site site)
{
    struct simt_lane *lane = simt_lane_now();

    simt_meet_warp(lane, site, NULL);
    for (uint32_t tile = 0; tile < 4; tile++) {
        const uint64_t *row = lane->warp->slot[lane->meetings & 1][tile * 8 + lane->lane / 4];
        memcpy(&out[tile], reinterpret_cast<const char *>(row) + lane->lane % 4 * 4, 4);
    }
}

/* Lane l gets number l / 4 of rows 2 (l % 4) and the next of each tile. */
EMU_HARDWARE static void take_tiles_transposed(uint32_t out[4], struct simt_site site)
{
    struct simt_lane *lane = simt_lane_now();

    simt_meet_warp(lane, site, NULL);
    for (uint32_t tile = 0; tile < 4; tile++) {
        uint16_t pair[2];
        for (uint32_t i = 0; i < 2; i++) {
            const uint64_t *row =
                lane->warp->slot[lane->meetings & 1][tile * 8 + lane->lane % 4 * 2 + i];
            memcpy(&pair[i], reinterpret_cast<const char *>(row) + lane->lane / 4 * 2, 2);
        }
        out[tile] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    }
}

void tile_load_4(uint32_t out[4], const void *row, const char *file, int line)
{
    SITE;
    struct quad own;

    simt_check_shared(simt_lane_now(), row, sizeof(own), site, "tile_load_4");
    own = *static_cast<const struct quad *>(row);
    give_row(&own);
    take_tiles(out, site);
}

void tile_load_4t(uint32_t out[4], const void *row, const char *file, int line)
{
    SITE;
    struct quad own;

    simt_check_shared(simt_lane_now(), row, sizeof(own), site, "tile_load_4t");
    own = *static_cast<const struct quad *>(row);
    give_row(&own);
    take_tiles_transposed(out, site);
}

/*
 * Of lane l = 4 g + t: a[0..3] hold rows g, g + 8, g, g + 8 and columns 2t, 2t, 2t + 8, 2t + 8 (and
 * the next column each), b[0..1] rows 2t, 2t + 8 (and the next) of column g, c[0..3] rows g, g, g +
 * 8, g + 8 and columns 2t, 2t + 1, 2t, 2t + 1. Adds up in float from k = 0 on; the card does it in
 * an order and with roundings of its own.
 */
EMU_HARDWARE static void multiply(struct simt_warp *warp, uint32_t parity)
{
    float a[TILE_ROWS][16], b[16][TILE_COLUMNS];
    float(*c)[TILE_COLUMNS] = warp->tile[parity];

    for (uint32_t l = 0; l < LANES; l++) {
        const uint64_t *slot = warp->slot[parity][l];
        uint32_t word[10], g = l / 4, t = l % 4 * 2;
        memcpy(word, slot, sizeof(word));
        for (uint32_t i = 0; i < 4; i++) {
            a[g + i % 2 * 8][t + i / 2 * 8] = bf16_low(word[i]);
            a[g + i % 2 * 8][t + i / 2 * 8 + 1] = bf16_high(word[i]);
            c[g + i / 2 * 8][t + i % 2] = float_of(word[6 + i]);
        }
        for (uint32_t i = 0; i < 2; i++) {
            b[t + i * 8][g] = bf16_low(word[4 + i]);
            b[t + i * 8 + 1][g] = bf16_high(word[4 + i]);
        }
    }
    for (uint32_t row = 0; row < TILE_ROWS; row++)
        for (uint32_t k = 0; k < 16; k++)
            for (uint32_t column = 0; column < TILE_COLUMNS; column++)
                c[row][column] += a[row][k] * b[k][column];
}

EMU_HARDWARE void tile_multiply(float c[4], const uint32_t a[4], const uint32_t b[2],
                                const char *file, int line)
{
    SITE;
    struct simt_lane *lane = simt_lane_now();
    char *slot = reinterpret_cast<char *>(lane->warp->slot[(lane->meetings + 1) & 1][lane->lane]);
    const float(*tile)[TILE_COLUMNS];

    memcpy(slot, a, 4 * sizeof(*a));
    memcpy(slot + 16, b, 2 * sizeof(*b));
    memcpy(slot + 24, c, 4 * sizeof(*c));
    simt_meet_warp(lane, site, multiply);
    tile = lane->warp->tile[lane->meetings & 1];
    for (uint32_t i = 0; i < 4; i++)
        c[i] = tile[lane->lane / 4 + i / 2 * 8][lane->lane % 4 * 2 + i % 2];
}
