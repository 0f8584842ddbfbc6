// The tiled upfirdn2d of 4 x 4 separable filters, as phases: what a thread does between two barriers of its block.
//
// A block makes a tile of out pixels. Phase `load` brings the in pixels it needs into shared memory; phase `compute`
// lets each thread walk down a strip of out pixels, filtering each row along x once and keeping the last rows in
// registers for the taps along y. The same functions run on the host, thread by thread, in the tests' emulator.
#pragma once

#include <cstdint>

#include "pixel.h"
#include "vector.h"

namespace facelatent {

constexpr int TILED_TAPS = 4;

template <typename A>
struct TiledArguments {
    const void* x;
    void* y;
    int64_t x_batch, x_plane, x_row, x_pixel, y_batch, y_plane, y_row, y_pixel;  // strides
    int64_t planes;                            // n * channels, or n where a pixel holds its channels
    int64_t channels;                          // planes of a batch entry, or 1
    int in_h, in_w, out_h, out_w;
    int origin_x, origin_y;                    // out pixel of the first tile: at or just above zero
    int in_origin_x, in_origin_y;              // the in pixel that its first tap sees
    int vectors;                               // of a pixel
    bool wide_stores;                          // pairs of out pixels are aligned
    A along_x[TILED_TAPS], along_y[TILED_TAPS];
};

constexpr int larger(int a, int b) { return a > b ? a : b; }
constexpr int smaller(int a, int b) { return a < b ? a : b; }

// The shape of a tile. PIXELS: channels_last, vectors of 16 bytes along the channels; else planes.
template <typename T, int UP, int DOWN, bool PIXELS>
struct TileShape {
    static constexpr int LANES = PIXELS ? larger(1, 16 / (int)sizeof(T)) : 1;  // numbers of a vector
    static constexpr int DEEP = PIXELS ? 4 : 1;                                // vectors of a pixel within a tile
    // Out pixels of a thread side by side: a pair shares in pixels, and makes 4 bytes of float16.
    static constexpr int WIDE = UP == 2 || (!PIXELS && DOWN == 1 && sizeof(T) == 2) ? 2 : 1;
    static constexpr int ACROSS = PIXELS ? (UP == 2 ? 8 : 16) : (DOWN == 2 || WIDE == 2 ? 32 : 64);  // threads along x
    static constexpr int DOWNWARD = THREADS / (DEEP * ACROSS);                                        // and along y
    static constexpr int STRIP = PIXELS ? (UP == 2 ? 4 : DOWN == 2 ? 2 : 8) : (DOWN == 2 ? 4 : 64 / DOWNWARD);
    static constexpr int OUT_W = ACROSS * WIDE, OUT_H = DOWNWARD * STRIP;
    static constexpr int IN_W = ((OUT_W - 1) * DOWN + TILED_TAPS - 1) / UP + 1;
    static constexpr int IN_H = ((OUT_H - 1) * DOWN + TILED_TAPS - 1) / UP + 1;
    static constexpr int CELLS = IN_H * IN_W * DEEP;
    static constexpr int ROUNDS = (CELLS + THREADS - 1) / THREADS;           // loads of a thread
    static constexpr int UNDER_WAY = smaller(ROUNDS, PIXELS ? 6 : 9);        // of them before it waits for the first
    static_assert(STRIP % UP == 0 && OUT_W % UP == 0, "a tile begins where a tap meets an in pixel");
};

// Where a block stands.
struct TilePlace {
    int tile_x, tile_y, first_vector;
    int64_t plane;
};

template <typename T, int UP, int DOWN, bool PIXELS>
struct Tile {
    using A = Accumulator<T>;
    using S = TileShape<T, UP, DOWN, PIXELS>;
    using Numbers = Vector<T, S::LANES>;
    // Vectors stay as they are in shared memory; single numbers are widened once.
    using Cell = std::conditional_t<PIXELS, Numbers, Vector<A, 1>>;

    static FACELATENT_HD void load(const TiledArguments<A>& a, const TilePlace& at, int thread, Cell* cells) {
        constexpr int ROUNDS = S::ROUNDS;
        const T* x = (const T*)a.x + at.plane / a.channels * a.x_batch + at.plane % a.channels * a.x_plane;
        const int in_x = a.in_origin_x + at.tile_x * (S::OUT_W * DOWN / UP);
        const int in_y = a.in_origin_y + at.tile_y * (S::OUT_H * DOWN / UP);
#pragma unroll 1
        for (int done = 0; done < ROUNDS; done += S::UNDER_WAY) {
            Numbers staged[S::UNDER_WAY];
#pragma unroll
            for (int i = 0; i < S::UNDER_WAY; ++i) {
                const int cell = thread + (done + i) * THREADS, pixel = cell / S::DEEP;
                const int vector = at.first_vector + cell % S::DEEP;
                const int row = in_y + pixel / S::IN_W, column = in_x + pixel % S::IN_W;
                staged[i] = {};
                // Unsigned, so that one comparison sees both ends.
                if (cell < S::CELLS && vector < a.vectors && (unsigned)row < (unsigned)a.in_h &&
                    (unsigned)column < (unsigned)a.in_w)
                    staged[i] = *(const Numbers*)(x + row * a.x_row + column * a.x_pixel + vector * (int64_t)S::LANES);
            }
#pragma unroll
            for (int i = 0; i < S::UNDER_WAY; ++i) {
                const int cell = thread + (done + i) * THREADS;
                if (cell >= S::CELLS) break;
                if constexpr (PIXELS) cells[cell] = staged[i];
                else cells[cell].v[0] = (A)staged[i].v[0];
            }
        }
    }

    static FACELATENT_HD void compute(const TiledArguments<A>& a, const TilePlace& at, int thread, const Cell* cells) {
        constexpr int IN_STRIP = ((S::STRIP - 1) * DOWN + TILED_TAPS - 1) / UP + 1;
        constexpr int KEPT = TILED_TAPS / UP;
        const int deep = thread % S::DEEP, across = thread / S::DEEP % S::ACROSS;
        const int first_y = thread / (S::DEEP * S::ACROSS) * S::STRIP;
        const int vector = at.first_vector + deep;
        const int out_x = a.origin_x + at.tile_x * S::OUT_W + across * S::WIDE;
        const int out_y = a.origin_y + at.tile_y * S::OUT_H + first_y;
        if (vector >= a.vectors || out_x >= a.out_w || out_x + S::WIDE <= 0 || out_y >= a.out_h) return;
        T* y = (T*)a.y + at.plane / a.channels * a.y_batch + at.plane % a.channels * a.y_plane +
               (int64_t)vector * S::LANES;
        const int first_cell = first_y * DOWN / UP * S::IN_W + across * S::WIDE * DOWN / UP;
        const Cell* from = cells + first_cell * S::DEEP + deep;
        A kept[KEPT][S::WIDE][S::LANES];
#pragma unroll
        for (int row = 0; row < IN_STRIP; ++row) {
            along_x(a, from + row * S::IN_W * S::DEEP, kept[row % KEPT]);
#pragma unroll
            for (int r = 0; r < S::STRIP; ++r) {
                // Only the out rows whose last tap is on this row.
                if ((r * DOWN + TILED_TAPS - 1) / UP != row) continue;
                if (out_y + r >= 0 && out_y + r < a.out_h) {
                    A sum[S::WIDE][S::LANES];
                    along_y(a, r, kept, sum);
                    store(a, y + (out_y + r) * a.y_row, out_x, sum);
                }
            }
        }
    }

  private:
    static FACELATENT_HD void along_x(const TiledArguments<A>& a, const Cell* from, A (&sums)[S::WIDE][S::LANES]) {
        constexpr int NEEDED = ((S::WIDE - 1) * DOWN + TILED_TAPS - 1) / UP + 1;
        Cell seen[NEEDED];
#pragma unroll
        for (int i = 0; i < NEEDED; ++i) seen[i] = from[i * S::DEEP];
#pragma unroll
        for (int p = 0; p < S::WIDE; ++p) {
#pragma unroll
            for (int lane = 0; lane < S::LANES; ++lane) {
                const int first = (p * DOWN + UP - 1) / UP, tap = first * UP - p * DOWN;
                A sum = 0;
#pragma unroll
                for (int k = 0; tap + k * UP < TILED_TAPS; ++k)
                    sum += (A)seen[first + k].v[lane] * a.along_x[tap + k * UP];
                sums[p][lane] = sum;
            }
        }
    }

    template <int KEPT>
    static FACELATENT_HD void along_y(const TiledArguments<A>& a, int r, const A (&kept)[KEPT][S::WIDE][S::LANES],
                                      A (&sums)[S::WIDE][S::LANES]) {
        const int first = (r * DOWN + UP - 1) / UP, tap = first * UP - r * DOWN;
#pragma unroll
        for (int p = 0; p < S::WIDE; ++p) {
#pragma unroll
            for (int lane = 0; lane < S::LANES; ++lane) {
                A sum = 0;
#pragma unroll
                for (int k = 0; k < KEPT; ++k) sum += kept[(first + k) % KEPT][p][lane] * a.along_y[tap + k * UP];
                sums[p][lane] = sum;
            }
        }
    }

    static FACELATENT_HD void store(const TiledArguments<A>& a, T* row, int out_x, const A (&sums)[S::WIDE][S::LANES]) {
        if constexpr (!PIXELS && S::WIDE == 2) {
            if (a.wide_stores && out_x >= 0 && out_x + 1 < a.out_w) {
                *(Vector<T, 2>*)(row + out_x) = {{(T)sums[0][0], (T)sums[1][0]}};
                return;
            }
        }
#pragma unroll
        for (int p = 0; p < S::WIDE; ++p) {
            if (out_x + p < 0 || out_x + p >= a.out_w) continue;
            Numbers numbers;
#pragma unroll
            for (int lane = 0; lane < S::LANES; ++lane) numbers.v[lane] = (T)sums[p][lane];
            *(Numbers*)(row + (out_x + p) * a.y_pixel) = numbers;
        }
    }
};

// Host side: whether the tiled kernel takes a call, and its arguments.

// Room to add and to double two of them.
inline bool fits_int(int64_t a, int64_t b) {
    const int64_t limit = 1 << 28;
    return a < limit && a > -limit && b < limit && b > -limit;
}

// First out pixel of the first tile: the last one not after zero whose first tap meets an in pixel.
inline int64_t tile_origin(int64_t pad, int up) { return -(((-pad) % up + up) % up); }

template <typename T, int UP, int DOWN, bool PIXELS, typename Call>
bool tiled_arguments(const Call& c, TiledArguments<Accumulator<T>>* a) {
    using S = TileShape<T, UP, DOWN, PIXELS>;
    const bool resampling = c.up_x == UP && c.up_y == UP && c.down_x == DOWN && c.down_y == DOWN;
    const bool filter = c.separable && c.taps_x == TILED_TAPS && c.taps_y == TILED_TAPS;
    if (!resampling || !filter || !fits_int(c.in_h, c.in_w) || !fits_int(c.out_h, c.out_w) ||
        !fits_int(c.pad_top, c.pad_left))
        return false;
    if (PIXELS) {
        bool fits = c.c % S::LANES == 0 && aligned(c.x, 16) && aligned(c.y, 16);
        fits = fits && c.x_stride[1] == 1 && c.y_stride[1] == 1;
        for (int i = 0; i < 4; ++i)
            fits = fits && (i == 1 || (c.x_stride[i] % S::LANES == 0 && c.y_stride[i] % S::LANES == 0));
        if (!fits) return false;
    }
    a->x = c.x, a->y = c.y;
    a->x_batch = c.x_stride[0], a->x_plane = c.x_stride[1], a->x_row = c.x_stride[2], a->x_pixel = c.x_stride[3];
    a->y_batch = c.y_stride[0], a->y_plane = c.y_stride[1], a->y_row = c.y_stride[2], a->y_pixel = c.y_stride[3];
    a->channels = PIXELS ? 1 : c.c;
    a->planes = c.n * a->channels;
    a->in_h = (int)c.in_h, a->in_w = (int)c.in_w, a->out_h = (int)c.out_h, a->out_w = (int)c.out_w;
    a->origin_x = (int)tile_origin(c.pad_left, UP), a->origin_y = (int)tile_origin(c.pad_top, UP);
    a->in_origin_x = (int)((a->origin_x * DOWN - c.pad_left) / UP);
    a->in_origin_y = (int)((a->origin_y * DOWN - c.pad_top) / UP);
    a->vectors = PIXELS ? (int)(c.c / S::LANES) : 1;
    bool even = a->origin_x % 2 == 0 && aligned(c.y, 2 * sizeof(T));
    for (int i = 0; i < 3; ++i) even = even && c.y_stride[i] % 2 == 0;
    a->wide_stores = even && c.y_stride[3] == 1;
    for (int k = 0; k < TILED_TAPS; ++k) {
        a->along_x[k] = (Accumulator<T>)c.filter[k];
        a->along_y[k] = (Accumulator<T>)c.filter[TILED_TAPS + k];
    }
    return true;
}

struct TileGrid {
    int64_t x, y;  // tiles along x times groups of vectors, tiles along y
    int groups;
};

template <typename S, typename A>
TileGrid tile_grid(const TiledArguments<A>& a) {
    const int groups = (a.vectors + S::DEEP - 1) / S::DEEP;
    const auto tiles = [](int64_t out, int64_t origin, int64_t side) { return (out - origin + side - 1) / side; };
    return {tiles(a.out_w, a.origin_x, S::OUT_W) * groups, tiles(a.out_h, a.origin_y, S::OUT_H), groups};
}

}  // namespace facelatent
