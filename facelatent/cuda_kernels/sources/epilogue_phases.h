// The fused layer epilogue as a GPU runs it, cut at every barrier into phases that a host can run thread by thread.
//
// A thread owns a vector of channels and a few neighbouring columns, and slides down the rows of its tile. The blur is
// separable: a row is filtered along x, and three running sums filter along y, so that x is read once from memory (its
// columns again from the cache, while the neighbours read them) and needs no shared memory. The next row is asked for
// before the present one is worked on. Neighbouring threads own neighbouring channels, then neighbouring columns.
// Sums over channels meet in shared memory.
#pragma once
#include <string.h>

#include <type_traits>

#include "epilogue_pixel.h"

namespace facelatent {

constexpr int THREADS = 128;      // of a block, at most
constexpr int GROUP = 4;          // rows between two barriers
constexpr int VECTOR_BYTES = 16;  // the widest access
constexpr int GRADIENTS = 6;      // sums over pixels: of demodulation, bias, style, rgb_weight

// How a launch covers the result: computed on the host, for a GPU and for its emulator alike.
struct Plan {
    int lanes, columns;  // threads of a block: vectors of channels, times places along x
    int rows;            // that a block slides down
    int first, vectors;  // the launch covers the vectors [first, vectors) of every pixel
    int tiles_v, tiles_x, tiles_y;
    int stride;  // in shared memory, from one lane's sums to the next's
    int64_t blocks, shared_bytes;
    FACELATENT_HD int threads() const { return lanes * columns; }
    FACELATENT_HD int64_t segments() const { return int64_t(tiles_x) * tiles_y; }
};

// Where a thread works.
struct Place {
    int n, tile_x, tile_y, row, end, column, channel, lane, slot;
    bool active;
};

template <int WIDTH, int PIXELS>
FACELATENT_HD Place place_of(const Layer& a, const Plan& plan, int64_t block, int thread) {
    Place at;
    unsigned rest = static_cast<unsigned>(block);
    const int tile_v = rest % plan.tiles_v;
    rest /= plan.tiles_v;
    at.tile_x = rest % plan.tiles_x;
    rest /= plan.tiles_x;
    at.tile_y = rest % plan.tiles_y;
    at.n = rest / plan.tiles_y;
    at.lane = thread % plan.lanes;
    at.slot = thread / plan.lanes;
    at.row = at.tile_y * plan.rows;
    at.end = at.row + plan.rows < a.h ? at.row + plan.rows : a.h;
    at.column = (at.tile_x * plan.columns + at.slot) * PIXELS;
    const int vector = plan.first + tile_v * plan.lanes + at.lane;
    at.channel = vector * WIDTH;
    at.active = vector < plan.vectors && at.column < a.w;
    return at;
}

// Neighbouring channels, read and written at once, and kept as words: halves are taken out only where they are used.
template <typename T, int WIDTH>
struct Pack {
    static constexpr int BYTES = sizeof(T) * WIDTH, WORDS = BYTES < 4 ? 1 : BYTES / 4;
    using R = Real<T>;
    uint32_t word[WORDS];

    FACELATENT_HD void clear() {
#pragma unroll
        for (int i = 0; i < WORDS; ++i) word[i] = 0;
    }

    FACELATENT_HD void read(const T* from) {
#ifdef __CUDA_ARCH__
        // The read-only path promises that no store changes the value, so that loads may move ahead of stores.
        if constexpr (BYTES == 16) {
            const uint4 in = __ldg(reinterpret_cast<const uint4*>(from));
            memcpy(word, &in, BYTES);
        } else if constexpr (BYTES == 8) {
            const uint2 in = __ldg(reinterpret_cast<const uint2*>(from));
            memcpy(word, &in, BYTES);
        } else if constexpr (BYTES == 4) {
            word[0] = __ldg(reinterpret_cast<const unsigned int*>(from));
        } else {
            word[0] = __ldg(reinterpret_cast<const unsigned short*>(from));
        }
#else
        check(from);
        memcpy(word, from, BYTES);
#endif
    }

    FACELATENT_HD void write(T* to) const {
#ifdef __CUDA_ARCH__
        if constexpr (BYTES == 16) {
            *reinterpret_cast<uint4*>(to) = make_uint4(word[0], word[1], word[2], word[3]);
        } else if constexpr (BYTES == 8) {
            *reinterpret_cast<uint2*>(to) = make_uint2(word[0], word[1]);
        } else if constexpr (BYTES == 4) {
            *reinterpret_cast<unsigned int*>(to) = word[0];
        } else {
            *reinterpret_cast<unsigned short*>(to) = static_cast<unsigned short>(word[0]);
        }
#else
        check(to);
        memcpy(to, word, BYTES);
#endif
    }

    FACELATENT_HD R get(int i) const {
#ifdef __CUDA_ARCH__
        if constexpr (std::is_same_v<T, __half>) {
            __half2 pair;
            memcpy(&pair, &word[i / 2], 4);
            return i % 2 ? __high2float(pair) : __low2float(pair);
        } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
            return __uint_as_float(i % 2 ? word[i / 2] & 0xffff0000u : word[i / 2] << 16);
        }
#endif
        T value;
        memcpy(&value, reinterpret_cast<const char*>(word) + i * sizeof(T), sizeof(T));
        return widen<T>(value);
    }

    FACELATENT_HD void set(const R (&value)[WIDTH]) {
        if constexpr (BYTES < 4) word[0] = 0;
#ifdef __CUDA_ARCH__
        if constexpr (std::is_same_v<T, __half> && WIDTH > 1) {
#pragma unroll
            for (int i = 0; i < WORDS; ++i) {
                const __half2 pair = __floats2half2_rn(value[2 * i], value[2 * i + 1]);
                memcpy(&word[i], &pair, 4);
            }
        } else if constexpr (std::is_same_v<T, __nv_bfloat16> && WIDTH > 1) {
#pragma unroll
            for (int i = 0; i < WORDS; ++i) {
                const __nv_bfloat162 pair = __floats2bfloat162_rn(value[2 * i], value[2 * i + 1]);
                memcpy(&word[i], &pair, 4);
            }
        } else
#endif
        {
            for (int i = 0; i < WIDTH; ++i) {
                const T narrowed = narrow<T>(value[i]);
                memcpy(reinterpret_cast<char*>(word) + i * sizeof(T), &narrowed, sizeof(T));
            }
        }
    }

private:
    // A GPU faults where an address is no multiple of the access; so does its emulator.
    static void check(const T* address) {
        if (reinterpret_cast<uintptr_t>(address) % BYTES) __builtin_trap();
    }
};

// One row of x for a thread: PIXELS columns, and the three beside them that the blur sees.
template <typename T, int WIDTH, int PIXELS, bool BLUR>
struct Row {
    static constexpr int SPAN = PIXELS + (BLUR ? TAPS - 1 : 0);
    using R = Real<T>;
    Pack<T, WIDTH> pack[SPAN];
    R noise[PIXELS];

    // Channel i of column p, filtered along x.
    FACELATENT_HD R value(int p, int i) const {
        if constexpr (BLUR) {
            const R outer = pack[p].get(i) + pack[p + 3].get(i), inner = pack[p + 1].get(i) + pack[p + 2].get(i);
            return outer + R(3) * inner;
        } else {
            return pack[p].get(i);
        }
    }
};

// Where a thread's rows come from. Addresses move from row to row; what lies outside is never read.
template <typename T, int WIDTH, int PIXELS, bool BLUR>
struct Source {
    using R = Real<T>;
    using Values = Row<T, WIDTH, PIXELS, BLUR>;
    const T* x;
    const R* noise;
    int y;                   // row of x
    unsigned columns, kept;  // bits: which of the SPAN columns exist, and which of the PIXELS results

    // To the first row that result row at.row needs.
    FACELATENT_HD void begin(const Layer& a, const Place& at) {
        const int left = BLUR ? at.column - a.pad_x : at.column;
        y = BLUR ? at.row - a.pad_y : at.row;
        x = static_cast<const T*>(a.x) +
            (at.n * a.x_batch_stride + y * a.x_row_stride + int64_t(left) * a.c + at.channel);
        noise = static_cast<const R*>(a.noise);
        if (noise) noise += at.n * a.noise_batch_stride + int64_t(at.row) * a.w + at.column;
        columns = kept = 0;
        if (!at.active) return;
#pragma unroll
        for (int k = 0; k < Values::SPAN; ++k) columns |= unsigned(left + k >= 0 && left + k < a.x_columns) << k;
#pragma unroll
        for (int p = 0; p < PIXELS; ++p) kept |= unsigned(at.column + p < a.w) << p;
    }

    // Without `more` nothing is read; a branch around the call would cost copies of all registers.
    FACELATENT_HD void load(const Layer& a, Values& row, bool more = true) {
        const unsigned some = more && y >= 0 && y < a.x_rows ? columns : 0;
#pragma unroll
        for (int k = 0; k < Values::SPAN; ++k) {
            row.pack[k].clear();
            if (some >> k & 1) row.pack[k].read(x + int64_t(a.c) * k);
        }
        x += a.x_row_stride;
        ++y;
    }

    FACELATENT_HD void load_noise(const Layer& a, Values& row, bool more = true) {
        const unsigned some = noise && more ? kept : 0;
#pragma unroll
        for (int p = 0; p < PIXELS; ++p) {
            row.noise[p] = 0;
            if (some >> p & 1) row.noise[p] = noise[p];
        }
        if (noise) noise += a.w;
    }
};

// The filter along y: the sums of the three results that have begun, of one channel of one column.
template <typename R, bool BLUR>
struct Window {
    R sum[3];

    // Takes the next row's value; gives the result that it completes, before BLUR_SCALE.
    FACELATENT_HD R push(R value) {
        if constexpr (!BLUR) return value;
        const R done = sum[0] + value;
        sum[0] = sum[1] + R(3) * value;
        sum[1] = sum[2] + R(3) * value;
        sum[2] = value;
        return done;
    }
};

// What a thread keeps of its channels. The gain is part of what comes after the limit.
template <typename R, int WIDTH>
struct Channels {
    R demodulation[WIDTH], bias[WIDTH], style[WIDTH];

    FACELATENT_HD void load(const Layer& a, const Place& at, R scale) {
        const int64_t first = int64_t(at.n) * a.c + at.channel;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const bool some = at.active;
            demodulation[i] = some ? scale * parameter<R>(a.demodulation, first + i, 1) : R(0);
            bias[i] = some ? parameter<R>(a.bias, at.channel + i, 0) : R(0);
            style[i] = some ? R(a.gain) * parameter<R>(a.style, first + i, 1) : R(0);
        }
    }
};

template <typename R, int WIDTH>
struct Colours {
    R weight[3][WIDTH];

    FACELATENT_HD void load(const Layer& a, const Place& at) {
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            const int64_t first = (int64_t(at.n) * 3 + k) * a.c + at.channel;
#pragma unroll
            for (int i = 0; i < WIDTH; ++i)
                weight[k][i] = at.active ? R(a.gain) * parameter<R>(a.rgb_weight, first + i, 0) : R(0);
        }
    }
};

// Sums over the lanes of a block: VALUES values a pixel for GROUP rows, each lane's part in its own place, so that
// every thread writes and reads shared memory without bank conflicts (see stride in plan_of).
template <typename R, int VALUES, int PIXELS>
struct LaneSums {
    FACELATENT_HD static void put(R* shared, const Plan& plan, const Place& at, int row, int k, int p, R value) {
        shared[((row * VALUES + k) * plan.lanes + at.lane) * plan.stride + p * plan.columns + at.slot] =
            at.active ? value : R(0);
    }

    // Calls use(row, k, column, sum) for the share of this thread.
    template <typename Use>
    FACELATENT_HD static void each(const R* shared, const Plan& plan, int tile_x, int thread, const Use& use) {
        const int places = plan.columns * PIXELS;
        const int across = places < plan.threads() ? places : plan.threads();
        const int down = plan.threads() / across, first = thread / across;
        if (first >= down) return;
        for (int q = first; q < GROUP * VALUES; q += down) {
            for (int place = thread % across; place < places; place += across) {
                R sum = 0;
                const R* parts = shared + q * plan.lanes * plan.stride + place;
                for (int lane = 0; lane < plan.lanes; ++lane) sum += parts[lane * plan.stride];
                const int p = place / plan.columns, slot = place % plan.columns;
                use(q / VALUES, q % VALUES, (tile_x * plan.columns + slot) * PIXELS + p, sum);
            }
        }
    }
};

// y and rgb. One thread's state, and the phases of its work: begin; then for every GROUP of rows, rows and (where
// sums() says so, between barriers) meet.
template <typename T, int WIDTH_, bool BLUR, bool RGB>
struct Forward {
    using R = Real<T>;
    // With a blur, four columns read seven: fewer reads and conversions a result than two columns of wider vectors.
    static constexpr int WIDTH = WIDTH_, PIXELS = BLUR && !RGB && WIDTH > 1 && sizeof(T) == 2 ? 4 : 2, VALUES = 3;
    static constexpr bool TOTALS = false;
    // Blocks that share a multiprocessor's registers, at least.
    static constexpr int BLOCKS = BLUR ? 3 : 4;
    using Sums = LaneSums<R, VALUES, PIXELS>;

    Place at;
    Source<T, WIDTH, PIXELS, BLUR> source;
    Row<T, WIDTH, PIXELS, BLUR> next;
    T* y;
    Window<R, BLUR> window[PIXELS][WIDTH];
    Channels<R, WIDTH> channels;
    Colours<R, RGB ? WIDTH : 1> colours;
    R slope, limit;

    FACELATENT_HD static bool sums(const Layer&) { return RGB; }

    FACELATENT_HD void begin(const Layer& a, const Plan& plan, int64_t block, int thread) {
        at = place_of<WIDTH, PIXELS>(a, plan, block, thread);
        source.begin(a, at);
        slope = R(a.slope);
        limit = R(a.limit);
        y = static_cast<T*>(a.y);
        if (y) y += at.n * a.y_batch_stride + at.row * a.y_row_stride + int64_t(at.column) * a.c + at.channel;
        if constexpr (BLUR) prime(a);
        source.load(a, next);
        source.load_noise(a, next);
        channels.load(a, at, BLUR ? R(BLUR_SCALE) : R(1));
        if constexpr (RGB) colours.load(a, at);
    }

    FACELATENT_HD void rows(const Layer& a, const Plan& plan, R* shared) {
#pragma unroll 2
        for (int g = 0; g < GROUP; ++g) {
            if (at.row + g < at.end) one_row(a, plan, shared, g);
        }
        at.row += GROUP;
    }

    // Ends the group that rows() began, so at.row is already past it.
    FACELATENT_HD void meet(const Layer& a, const Plan& plan, const R* shared, int thread) const {
        const int first = at.row - GROUP, end = at.end, n = at.n;
        Sums::each(shared, plan, at.tile_x, thread, [&](int g, int k, int column, R sum) {
            const int row = first + g;
            if (row >= end || column >= a.w) return;
            R* rgb = static_cast<R*>(a.rgb) + (n * a.rgb_batch_stride + k * a.rgb_channel_stride) +
                     row * a.rgb_row_stride + column;
            *rgb = picture_pixel<R>(a, a.accumulate ? *rgb + sum : sum, n, k, row, column);
        });
    }

private:
    // The three rows above the first that completes a result.
    FACELATENT_HD void prime(const Layer& a) {
#pragma unroll
        for (int p = 0; p < PIXELS; ++p) {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) window[p][i] = {};
        }
#pragma unroll
        for (int k = 1; k < TAPS; ++k) {
            source.load(a, next);
#pragma unroll
            for (int p = 0; p < PIXELS; ++p) {
#pragma unroll
                for (int i = 0; i < WIDTH; ++i) window[p][i].push(next.value(p, i));
            }
        }
    }

    FACELATENT_HD void one_row(const Layer& a, const Plan& plan, R* shared, int g) {
        const Row<T, WIDTH, PIXELS, BLUR> present = next;
        const bool more = at.row + g + 1 < at.end;
        source.load(a, next, more);
        source.load_noise(a, next, more);
        R result[PIXELS][WIDTH], rgb[3][PIXELS] = {};
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
#pragma unroll
            for (int p = 0; p < PIXELS; ++p) {
                R value = window[p][i].push(present.value(p, i));
                value = value * channels.demodulation[i] + channels.bias[i] + present.noise[p];
                value = limited<R>(leaky<R>(value, slope), limit);
                result[p][i] = value * channels.style[i];
#pragma unroll
                for (int k = 0; RGB && k < 3; ++k) rgb[k][p] += value * colours.weight[k][RGB ? i : 0];
            }
        }
#pragma unroll
        for (int p = 0; p < PIXELS; ++p) {
            if (y && (source.kept >> p & 1)) {
                Pack<T, WIDTH> pack;
                pack.set(result[p]);
                pack.write(y + int64_t(a.c) * p);
            }
#pragma unroll
            for (int k = 0; RGB && k < 3; ++k) Sums::put(shared, plan, at, g, k, p, rgb[k][p]);
        }
        if (y) y += a.y_row_stride;
    }
};

// The gradient of what the activation takes, times the demodulation, as y; of the noise; and each block's sums over its
// pixels for the parameters' gradients, [n, segments, GRADIENTS, c]. Without a blur y is the gradient of x; with one it
// has still to be blurred. Phases as Forward's, and end and total after the last row.
template <typename T, int WIDTH_, bool BLUR>
struct Backward {
    using R = Real<T>;
    static constexpr int WIDTH = WIDTH_, PIXELS = 1, VALUES = 1;
    static constexpr bool TOTALS = true;
    static constexpr int BLOCKS = BLUR && sizeof(T) == sizeof(float) ? 2 : 3;
    using Sums = LaneSums<R, VALUES, PIXELS>;

    Place at;
    Source<T, WIDTH, PIXELS, BLUR> source;
    Row<T, WIDTH, PIXELS, BLUR> next;
    Pack<T, WIDTH> next_gy;
    R next_grgb[3];
    T* y;
    const T* gy;
    const R* grgb;
    Window<R, BLUR> window[WIDTH];
    Channels<R, WIDTH> channels;
    Colours<R, WIDTH> colours;
    R sum[GRADIENTS][WIDTH];
    R slope, limit;

    FACELATENT_HD static bool sums(const Layer& a) { return a.gnoise; }

    FACELATENT_HD void begin(const Layer& a, const Plan& plan, int64_t block, int thread) {
        at = place_of<WIDTH, PIXELS>(a, plan, block, thread);
        source.begin(a, at);
        const int64_t pixel = (int64_t(at.n) * a.h + at.row) * a.w + at.column;
        slope = R(a.slope);
        limit = R(a.limit);
        y = static_cast<T*>(a.y);
        if (y) y += at.n * a.y_batch_stride + at.row * a.y_row_stride + int64_t(at.column) * a.c + at.channel;
        gy = static_cast<const T*>(a.gy);
        if (gy) gy += pixel * a.c + at.channel;
        grgb = static_cast<const R*>(a.grgb);
        if (grgb) grgb += at.n * a.rgb_batch_stride + at.row * a.rgb_row_stride + at.column;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            window[i] = {};
#pragma unroll
            for (int q = 0; q < GRADIENTS; ++q) sum[q][i] = 0;
        }
#pragma unroll
        for (int k = 1; BLUR && k < TAPS; ++k) {
            source.load(a, next);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) window[i].push(next.value(0, i));
        }
        load(a, true);
        channels.load(a, at, BLUR ? R(BLUR_SCALE) : R(1));
        colours.load(a, at);
    }

    FACELATENT_HD void rows(const Layer& a, const Plan& plan, R* shared) {
#pragma unroll 1
        for (int g = 0; g < GROUP; ++g) {
            if (at.row + g < at.end) one_row(a, plan, shared, g);
        }
        at.row += GROUP;
    }

    FACELATENT_HD void meet(const Layer& a, const Plan& plan, const R* shared, int thread) const {
        const int first = at.row - GROUP, end = at.end, n = at.n;
        Sums::each(shared, plan, at.tile_x, thread, [&](int g, int, int column, R value) {
            if (first + g >= end || column >= a.w) return;
            R* to = static_cast<R*>(a.gnoise) + (int64_t(n) * a.h + first + g) * a.w + column;
            *to = a.accumulate ? *to + value : value;
        });
    }

    FACELATENT_HD void end(const Plan& plan, R* shared) const {
#pragma unroll
        for (int q = 0; q < GRADIENTS; ++q) {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i)
                shared[(q * WIDTH + i) * plan.threads() + at.slot * plan.lanes + at.lane] = sum[q][i];
        }
    }

    FACELATENT_HD void total(const Layer& a, const Plan& plan, const R* shared, int thread) const {
        const int64_t segment = int64_t(at.n) * plan.segments() + int64_t(at.tile_y) * plan.tiles_x + at.tile_x;
        const int vectors_left = plan.vectors - (at.channel / WIDTH - at.lane);
        const int channel = at.channel - at.lane * WIDTH;
        for (int o = thread; o < GRADIENTS * WIDTH * plan.lanes; o += plan.threads()) {
            const int lane = o % plan.lanes, value = o / plan.lanes;
            if (lane >= vectors_left) continue;
            R all = 0;
            for (int slot = 0; slot < plan.columns; ++slot)
                all += shared[value * plan.threads() + slot * plan.lanes + lane];
            const int q = value / WIDTH, i = value % WIDTH;
            // The blur's scale is part of the demodulation, the gain of the style and the colours.
            const R scale = q == 0 ? (BLUR ? R(BLUR_SCALE) : R(1)) : q == 1 ? R(1) : R(a.gain);
            static_cast<R*>(a.partial)[(segment * GRADIENTS + q) * a.c + channel + lane * WIDTH + i] = all * scale;
        }
    }

private:
    FACELATENT_HD void load(const Layer& a, bool more) {
        source.load(a, next, more);
        source.load_noise(a, next, more);
        next_gy.clear();
        if (gy && more && at.active) next_gy.read(gy);
        if (gy) gy += int64_t(a.w) * a.c;
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            next_grgb[k] = 0;
            if (grgb && more && at.active) next_grgb[k] = grgb[k * a.rgb_channel_stride];
        }
        if (grgb) grgb += a.rgb_row_stride;
    }

    FACELATENT_HD void one_row(const Layer& a, const Plan& plan, R* shared, int g) {
        const Row<T, WIDTH, PIXELS, BLUR> present = next;
        const Pack<T, WIDTH> present_gy = next_gy;
        const R present_grgb[3] = {next_grgb[0], next_grgb[1], next_grgb[2]};
        load(a, at.row + g + 1 < at.end);
        R result[WIDTH], over_channels = 0;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const R value = window[i].push(present.value(0, i));
            const R biased = value * channels.demodulation[i] + channels.bias[i] + present.noise[0];
            const R steepness = biased > R(0) ? R(1) : slope;
            const R unlimited = biased * steepness, activation = limited<R>(unlimited, limit);
            const R from_y = present_gy.get(i);
            R gradient = from_y * channels.style[i];
#pragma unroll
            for (int k = 0; k < 3; ++k) gradient += present_grgb[k] * colours.weight[k][i];
            gradient = (unlimited < R(0) ? -unlimited : unlimited) <= limit ? gradient * steepness : R(0);
            result[i] = gradient * channels.demodulation[i] * (BLUR ? R(1 / BLUR_SCALE) : R(1));
            over_channels += gradient;
            sum[0][i] += gradient * value;
            sum[1][i] += gradient;
            sum[2][i] += from_y * activation;
#pragma unroll
            for (int k = 0; k < 3; ++k) sum[3 + k][i] += present_grgb[k] * activation;
        }
        if (a.gnoise) Sums::put(shared, plan, at, g, 0, 0, over_channels);
        if (y) {
            Pack<T, WIDTH> pack;
            pack.set(result);
            if (at.active) pack.write(y);
            y += a.y_row_stride;
        }
    }
};

// colours + bias, limited, on top of the enlarged previous picture: planes of a picture [n, 3, h, w], WIDTH neighbours
// a thread. One phase.
template <typename R, int WIDTH>
FACELATENT_HD void skip_phase(const Layer& a, int64_t index) {
    const int vectors = a.w / WIDTH;
    const int64_t line = index / vectors;
    if (line >= int64_t(a.n) * 3 * a.h) return;
    const int column = static_cast<int>(index % vectors) * WIDTH, row = static_cast<int>(line % a.h);
    const int64_t plane = line / a.h;
    const int64_t start = line * a.w + column;
    const int k = static_cast<int>(plane % 3);
    Pack<R, WIDTH> pack;
    pack.read(static_cast<const R*>(a.x) + start);
    R value[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) value[i] = picture_pixel<R>(a, pack.get(i), plane / 3, k, row, column + i);
    pack.set(value);
    pack.write(static_cast<R*>(a.rgb) + start);
}

}  // namespace facelatent
