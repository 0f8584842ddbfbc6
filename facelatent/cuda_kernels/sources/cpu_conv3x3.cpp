// Winograd's minimal filtering (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016), blocked so
// that a thread's tiles stay in its cache, and followed row by row by the epilogue.
//
// Each thread takes rows of tiles. For a chunk of tiles it transforms the inputs, multiplies matrices [tiles, inputs] x
// [inputs, outputs], one for each product of the algorithm, and transforms the results back into a ring of rows; as soon
// as the rows are there that a row of the epilogue needs, it writes that.
#include "conv3x3.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "cpu_epilogue_row.h"

namespace {

using facelatent::BFloat16;

#if defined(__AVX512F__)
constexpr int LANES = 16, WIDEST = 4;  // vectors in a panel of outputs; with the rows below they fill the registers
constexpr int rows_of_kernel(int vectors) { return vectors == 4 ? 6 : vectors == 2 ? 12 : 14; }
#else
constexpr int LANES = 8, WIDEST = 2;
constexpr int rows_of_kernel(int vectors) { return vectors == 2 ? 6 : 12; }
#endif
typedef float Vec __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

// The transforms of one axis; both axes take the same. A tile takes IN inputs from STEP * tile + FIRST on and gives OUT
// outputs. A product p multiplies input V[p] by weight U[p]: where two share an input or a weight, it is kept once.

// F(4, 3): points 0, +-a, +-b and infinity. These a and b lose a third of the digits that the usual 1 and 2 lose.
struct Conv {
    static constexpr int IN = 6, INPUTS = 6, WEIGHTS = 6, PRODUCTS = 6, OUT = 4, STEP = 4, FIRST = -1;
    static constexpr int V[] = {0, 1, 2, 3, 4, 5}, U[] = {0, 1, 2, 3, 4, 5};
    static constexpr double a = 0.625, b = 1.5, a2 = a * a, b2 = b * b;

    template <class T>
    static void input(const T* d, T* v) {
        const T even_a = d[4] - float(b2) * d[2], odd_a = float(a) * (d[3] - float(b2) * d[1]);
        const T even_b = d[4] - float(a2) * d[2], odd_b = float(b) * (d[3] - float(a2) * d[1]);
        v[0] = float(a2 * b2) * d[0] - float(a2 + b2) * d[2] + d[4];
        v[1] = even_a + odd_a;
        v[2] = even_a - odd_a;
        v[3] = even_b + odd_b;
        v[4] = even_b - odd_b;
        v[5] = float(a2 * b2) * d[1] - float(a2 + b2) * d[3] + d[5];
    }
    static void weight(const double* g, double* u) {
        const double by_a = 2 * a2 * (a2 - b2), by_b = 2 * b2 * (b2 - a2);
        u[0] = g[0] / (a2 * b2);
        u[1] = (g[0] + a * g[1] + a2 * g[2]) / by_a;
        u[2] = (g[0] - a * g[1] + a2 * g[2]) / by_a;
        u[3] = (g[0] + b * g[1] + b2 * g[2]) / by_b;
        u[4] = (g[0] - b * g[1] + b2 * g[2]) / by_b;
        u[5] = g[2];
    }
    template <class T>
    static void output(const T* m, T* y) {
        const T even_a = m[1] + m[2], odd_a = float(a) * (m[1] - m[2]);
        const T even_b = m[3] + m[4], odd_b = float(b) * (m[3] - m[4]);
        y[0] = m[0] + even_a + even_b;
        y[1] = odd_a + odd_b;
        y[2] = float(a2) * even_a + float(b2) * even_b;
        y[3] = float(a2) * odd_a + float(b2) * odd_b + m[5];
    }
};

// Transposed, stride 2: even outputs are F(2, 2) of taps 2 and 0, odd ones products with tap 1.
struct Up {
    static constexpr int IN = 3, INPUTS = 4, WEIGHTS = 4, PRODUCTS = 5, OUT = 4, STEP = 2, FIRST = -1;
    static constexpr int V[] = {0, 1, 2, 1, 3}, U[] = {0, 1, 2, 3, 3};

    template <class T>
    static void input(const T* d, T* v) {
        v[0] = d[0] - d[1];
        v[1] = d[1];
        v[2] = d[2] - d[1];
        v[3] = d[2];
    }
    static void weight(const double* g, double* u) {
        u[0] = g[2];
        u[1] = g[0] + g[2];
        u[2] = g[0];
        u[3] = g[1];
    }
    template <class T>
    static void output(const T* m, T* y) {
        y[0] = m[0] + m[1];
        y[1] = m[3];
        y[2] = m[1] + m[2];
        y[3] = m[4];
    }
};

// Stride 2: F(2, 2) of the even inputs and taps 0 and 2, products of the odd inputs with tap 1.
struct Down {
    static constexpr int IN = 5, INPUTS = 5, WEIGHTS = 4, PRODUCTS = 5, OUT = 2, STEP = 4, FIRST = 0;
    static constexpr int V[] = {0, 1, 2, 3, 4}, U[] = {0, 1, 2, 3, 3};

    template <class T>
    static void input(const T* d, T* v) {
        v[0] = d[0] - d[2];
        v[1] = d[2];
        v[2] = d[4] - d[2];
        v[3] = d[1];
        v[4] = d[3];
    }
    static void weight(const double* g, double* u) {
        u[0] = g[0];
        u[1] = g[0] + g[2];
        u[2] = g[2];
        u[3] = g[1];
    }
    template <class T>
    static void output(const T* m, T* y) {
        y[0] = m[0] + m[1] + m[3];
        y[1] = m[1] + m[2] + m[4];
    }
};

int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

int vectors_for(int64_t outputs) {
    int vectors = WIDEST;
    while (vectors > 1 && outputs % (vectors * LANES)) vectors /= 2;
    return vectors;
}

// Weights are read ahead by more than a page: the hardware does not look across pages.
constexpr int AHEAD = 2048;

// c [ROWS, VECTORS * LANES] (+)= a [ROWS, depth] b [depth, VECTORS * LANES]
template <int ROWS, int VECTORS>
void multiply_block(const float* a, int64_t a_stride, const float* b, int64_t depth, float* c, int64_t c_stride, bool add) {
    Vec sums[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            sums[row][v] = add ? *reinterpret_cast<Vec*>(c + row * c_stride + v * LANES) : Vec{};
    for (int64_t k = 0; k < depth; k++) {
        Vec weights[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            const float* from = b + (k * VECTORS + v) * LANES;
            weights[v] = *reinterpret_cast<const Vec*>(from);
            __builtin_prefetch(from + AHEAD);
        }
#pragma GCC unroll 16
        for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) sums[row][v] += a[row * a_stride + k] * weights[v];
    }
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) *reinterpret_cast<Vec*>(c + row * c_stride + v * LANES) = sums[row][v];
}

// c [rows, outputs] = a [rows, depth] b, packed in panels; rows is a multiple of the kernel's.
template <int VECTORS>
void multiply(const float* a, const float* b, float* c, int64_t rows, int64_t depth, int64_t outputs) {
    constexpr int ROWS = rows_of_kernel(VECTORS), WIDTH = VECTORS * LANES;
    constexpr int64_t SLICE = 512;  // of a panel, that stays in the second-level cache
    for (int64_t panel = 0; panel < outputs; panel += WIDTH)
        for (int64_t k = 0; k < depth; k += SLICE)
            for (int64_t row = 0; row < rows; row += ROWS)
                multiply_block<ROWS, VECTORS>(a + row * depth + k, depth, b + panel * depth + k * WIDTH,
                                              std::min(SLICE, depth - k), c + row * outputs + panel, outputs, k > 0);
}

void multiply(const float* a, const float* b, float* c, int64_t rows, int64_t depth, int64_t outputs, int vectors) {
    if (vectors == 4) return multiply<WIDEST>(a, b, c, rows, depth, outputs);
    if (vectors == 2) return multiply<2>(a, b, c, rows, depth, outputs);
    multiply<1>(a, b, c, rows, depth, outputs);
}

// A thread's memory, kept for its next call.
float* scratch(int64_t count) {
    struct Release {
        void operator()(float* memory) const { std::free(memory); }
    };
    static thread_local std::unique_ptr<float, Release> memory;
    static thread_local int64_t held = 0;
    if (count > held) {
        memory.reset();
        memory.reset(static_cast<float*>(std::aligned_alloc(64, size_t(round_up(count * 4, 64)))));
        held = memory ? count : 0;
    }
    return memory.get();
}

inline Vec load_vector(const float* from) { return *reinterpret_cast<const Vec*>(from); }
inline Vec load_vector(const BFloat16* from) {
    typedef uint16_t Halves __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
    typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
    return (Vec)(__builtin_convertvector(*reinterpret_cast<const Halves*>(from), Words) << 16);
}

// The last few channels of a pixel, or a whole vector of them.
template <class T>
Vec load_lanes(const T* from, int64_t lanes) {
    if (lanes >= LANES) return load_vector(from);
    Vec value{};
    for (int64_t i = 0; i < lanes; i++) value[i] = float(from[i]);
    return value;
}

int64_t size_after(int32_t mode, int64_t size) {
    return mode == FACELATENT_UP ? 2 * size + 1 : mode == FACELATENT_DOWN ? (size - 1) / 2 : size;
}

// The shape of one call and the way it is cut.
template <class F>
struct Plan {
    int64_t inputs, depth, outputs, width, h, w;  // depth and width: channels in memory, rounded up to whole vectors
    int64_t out_h, out_w, down, across;           // tiles
    int64_t group, chunk, ring;                   // rows of tiles at a time, tiles at a time, rows kept
    int64_t v_plane, m_plane;
    int vectors;

    explicit Plan(const facelatent_conv3x3& call)
        : inputs(call.inputs), depth(round_up(call.inputs, LANES)), outputs(call.outputs), h(call.h), w(call.w) {
        vectors = vectors_for(outputs);
        width = round_up(outputs, vectors * LANES);
        out_h = size_after(call.mode, h);
        out_w = size_after(call.mode, w);
        down = (out_h + F::OUT - 1) / F::OUT;
        across = (out_w + F::OUT - 1) / F::OUT;
        group = std::clamp<int64_t>(TILES / across, 1, down);
        chunk = round_up(std::min(TILES, group * across), rows_of_kernel(vectors));
        ring = F::OUT * (group + 1);
        // Planes that start at equal places of the cache's sets would drive each other out.
        v_plane = chunk * depth + 80;
        m_plane = chunk * width + 80;
    }
    // Enough that reading the weights takes less time than multiplying by them, few enough to stay near the core.
    static constexpr int64_t TILES = 72;
    int64_t v_size() const { return F::INPUTS * F::INPUTS * v_plane; }
    int64_t m_size() const { return F::PRODUCTS * F::PRODUCTS * m_plane; }
    int64_t ring_size() const { return ring * out_w * outputs; }
};

// The transform of the tile at (top, left), which may reach over the picture's edge unless INSIDE.
template <class F, class T, bool INSIDE>
void transform_inputs(const Plan<F>& plan, const T* x, int64_t top, int64_t left, float* v) {
    const int64_t row_stride = plan.w * plan.inputs;
    for (int64_t channel = 0; channel < plan.inputs; channel += LANES) {
        const T* corner = x + top * row_stride + left * plan.inputs + channel;
        Vec columns[F::IN][F::INPUTS];
#pragma GCC unroll 8
        for (int i = 0; i < F::IN; i++) {
            Vec row[F::IN];
#pragma GCC unroll 8
            for (int j = 0; j < F::IN; j++) {
                const bool inside = top + i >= 0 && top + i < plan.h && left + j >= 0 && left + j < plan.w;
                const T* pixel = corner + i * row_stride + j * plan.inputs;
                row[j] = INSIDE ? load_vector(pixel) : inside ? load_lanes(pixel, plan.inputs - channel) : Vec{};
            }
            F::input(row, columns[i]);
        }
#pragma GCC unroll 8
        for (int j = 0; j < F::INPUTS; j++) {
            Vec column[F::IN], result[F::INPUTS];
#pragma GCC unroll 8
            for (int i = 0; i < F::IN; i++) column[i] = columns[i][j];
            F::input(column, result);
#pragma GCC unroll 8
            for (int i = 0; i < F::INPUTS; i++)
                *reinterpret_cast<Vec*>(v + (i * F::INPUTS + j) * plan.v_plane + channel) = result[i];
        }
    }
}

// `rows` are where the tile's rows go, null for none; a tile that is not INSIDE may be cut on its right.
template <class F, bool INSIDE>
void transform_outputs(const Plan<F>& plan, const float* m, float* const rows[F::OUT], int64_t left) {
    for (int64_t channel = 0; channel < plan.outputs; channel += LANES) {
        Vec columns[F::PRODUCTS][F::OUT];
#pragma GCC unroll 8
        for (int i = 0; i < F::PRODUCTS; i++) {
            Vec row[F::PRODUCTS];
#pragma GCC unroll 8
            for (int j = 0; j < F::PRODUCTS; j++) row[j] = load_vector(m + (i * F::PRODUCTS + j) * plan.m_plane + channel);
            F::output(row, columns[i]);
        }
#pragma GCC unroll 8
        for (int j = 0; j < F::OUT; j++) {
            if (!INSIDE && left + j >= plan.out_w) break;
            Vec column[F::PRODUCTS], result[F::OUT];
#pragma GCC unroll 8
            for (int i = 0; i < F::PRODUCTS; i++) column[i] = columns[i][j];
            F::output(column, result);
#pragma GCC unroll 8
            for (int i = 0; i < F::OUT; i++) {
                float* pixel = rows[i] + (left + j) * plan.outputs + channel;
                if (INSIDE)
                    *reinterpret_cast<Vec*>(pixel) = result[i];
                else if (rows[i] != nullptr)
                    memcpy(pixel, &result[i], size_t(std::min<int64_t>(LANES, plan.outputs - channel)) * sizeof *pixel);
            }
        }
    }
}

// Rows of tiles [first, last) of one sample.
template <class F, class T>
class Segment {
   public:
    Segment(const Plan<F>& plan, const facelatent_conv3x3& call, int64_t n)
        : plan_(plan), call_(call), n_(n), x_(static_cast<const T*>(call.x) + n * plan.h * plan.w * plan.inputs) {
        const int64_t row = plan.out_w * plan.outputs;
        v_ = scratch(plan.v_size() + plan.m_size() + plan.ring_size() + row + row + 2 * plan.outputs);
        if (v_ == nullptr) return;
        m_ = v_ + plan.v_size();
        ring_ = m_ + plan.m_size();
        zeros_ = ring_ + plan.ring_size();
        work_ = zeros_ + row;
        std::fill(zeros_, zeros_ + row, 0.0f);
        std::fill(v_, v_ + plan.v_size(), 0.0f);  // the padding among the channels
        if (call.epilogue) sample_ = facelatent::sample_of<float>(*call.epilogue, n);
    }
    bool valid() const { return v_ != nullptr; }

    void run(int64_t first, int64_t last) {
        const int64_t lag = call_.epilogue && call_.epilogue->blur ? 2 : 0;
        const int64_t height = call_.epilogue ? call_.epilogue->h : plan_.out_h;
        int64_t next = std::max<int64_t>(0, first * F::OUT - lag);
        // The blur looks a row back, into the tiles of the segment above.
        for (int64_t tile = lag ? std::max<int64_t>(0, first - 1) : first; tile < last;) {
            const int64_t end = tile < first ? first : std::min(tile + plan_.group, last);
            convolve(tile, end);
            tile = end;
            if (call_.epilogue == nullptr) continue;
            for (; next < std::min(height, end * F::OUT - lag); next++) finish(next);
        }
    }

   private:
    float* row(int64_t index) {
        if (index >= plan_.out_h) return nullptr;
        if (call_.epilogue) return ring_ + (index % plan_.ring) * plan_.out_w * plan_.outputs;
        return static_cast<float*>(call_.y) + (n_ * plan_.out_h + index) * plan_.out_w * plan_.outputs;
    }

    void convolve(int64_t first, int64_t last) {
        const int64_t tiles = (last - first) * plan_.across;
        for (int64_t begin = 0; begin < tiles; begin += plan_.chunk) {
            const int64_t count = std::min(plan_.chunk, tiles - begin);
            for (int64_t tile = 0; tile < count; tile++) {
                const int64_t down = first + (begin + tile) / plan_.across, across = (begin + tile) % plan_.across;
                const int64_t top = down * F::STEP + F::FIRST, left = across * F::STEP + F::FIRST;
                const bool inside = top >= 0 && top + F::IN <= plan_.h && left >= 0 && left + F::IN <= plan_.w;
                const auto transform = inside && plan_.inputs == plan_.depth ? transform_inputs<F, T, true>
                                                                             : transform_inputs<F, T, false>;
                transform(plan_, x_, top, left, v_ + tile * plan_.depth);
            }
            multiply_all(round_up(count, rows_of_kernel(plan_.vectors)));
            for (int64_t tile = 0; tile < count; tile++) {
                const int64_t down = first + (begin + tile) / plan_.across, across = (begin + tile) % plan_.across;
                float* rows[F::OUT];
                for (int i = 0; i < F::OUT; i++) rows[i] = row(down * F::OUT + i);
                const bool inside = rows[F::OUT - 1] && across < plan_.across - 1 && plan_.outputs % LANES == 0;
                const auto transform = inside ? transform_outputs<F, true> : transform_outputs<F, false>;
                transform(plan_, m_ + tile * plan_.width, rows, across * F::OUT);
            }
        }
    }

    void multiply_all(int64_t rows) {
        for (int i = 0; i < F::PRODUCTS; i++)
            for (int j = 0; j < F::PRODUCTS; j++)
                multiply(v_ + (F::V[i] * F::INPUTS + F::V[j]) * plan_.v_plane,
                         call_.packed + (F::U[i] * F::WEIGHTS + F::U[j]) * plan_.depth * plan_.width,
                         m_ + (i * F::PRODUCTS + j) * plan_.m_plane, rows, plan_.depth, plan_.width, plan_.vectors);
    }

    void finish(int64_t index) {
        const facelatent_epilogue& e = *call_.epilogue;
        const float* rows[4];
        for (int tap = 0; tap < 4; tap++) {
            const int64_t source = e.blur ? index - 1 + tap : index;
            rows[tap] = source < 0 || source >= plan_.out_h ? zeros_ : row(source);
        }
        const float* noise = static_cast<const float*>(e.noise);
        T* y = static_cast<T*>(e.y);
        float* rgb = static_cast<float*>(e.rgb);
        facelatent::epilogue_row(sample_, e.blur, rows, e.c, e.w,
                                 noise ? noise + n_ * e.noise_batch_stride + index * e.w : nullptr,
                                 y ? y + n_ * e.y_batch_stride + index * e.y_row_stride : nullptr,
                                 rgb ? rgb + n_ * e.rgb_batch_stride + index * e.rgb_row_stride : nullptr,
                                 e.rgb_channel_stride, work_);
    }

    const Plan<F>& plan_;
    const facelatent_conv3x3& call_;
    int64_t n_;
    const T* x_;
    float *v_ = nullptr, *m_ = nullptr, *ring_ = nullptr, *zeros_ = nullptr, *work_ = nullptr;
    facelatent::Sample<float> sample_;
};

template <class F, class T>
int run(const facelatent_conv3x3& call) {
    const Plan<F> plan(call);
    bool enough = true;
#pragma omp parallel num_threads(std::max(call.threads, 1)) reduction(&& : enough)
    {
        int64_t thread = 0, threads = 1;
#ifdef _OPENMP
        thread = omp_get_thread_num(), threads = omp_get_num_threads();
#endif
        // Rows of tiles of all samples in one line, an equal piece of it for each thread.
        const int64_t total = call.n * plan.down;
        int64_t tile = total * thread / threads;
        const int64_t end = total * (thread + 1) / threads;
        while (tile < end && enough) {
            const int64_t n = tile / plan.down, first = tile % plan.down;
            const int64_t last = std::min(plan.down, first + end - tile);
            Segment<F, T> segment(plan, call, n);
            enough = segment.valid();
            if (enough) segment.run(first, last);
            tile += last - first;
        }
    }
    return enough ? FACELATENT_OK : FACELATENT_NO_MEMORY;
}

template <class T>
int run(const facelatent_conv3x3& call) {
    if (call.mode == FACELATENT_UP) return run<Up, T>(call);
    if (call.mode == FACELATENT_DOWN) return run<Down, T>(call);
    return run<Conv, T>(call);
}

template <class F>
void pack(const facelatent_conv3x3_pack& call) {
    const int64_t panel = vectors_for(call.outputs) * LANES;
    const int64_t depth = round_up(call.inputs, LANES), width = round_up(call.outputs, panel);
#pragma omp parallel for num_threads(std::max(call.threads, 1))
    for (int64_t k = 0; k < depth; k++) {
        for (int64_t o = 0; o < width; o++) {
            const bool inside = k < call.inputs && o < call.outputs;
            const float* taps = call.weight + (inside ? o * call.output_stride + k * call.input_stride : 0);
            double columns[3][F::WEIGHTS], result[F::WEIGHTS];
            for (int i = 0; i < 3; i++) {
                double row[3];
                for (int j = 0; j < 3; j++) row[j] = inside ? taps[i * call.row_stride + j * call.column_stride] : 0;
                F::weight(row, columns[i]);
            }
            float* to = call.packed + (o / panel * depth + k) * panel + o % panel;
            for (int j = 0; j < F::WEIGHTS; j++) {
                const double column[3] = {columns[0][j], columns[1][j], columns[2][j]};
                F::weight(column, result);
                for (int i = 0; i < F::WEIGHTS; i++) to[(i * F::WEIGHTS + j) * width * depth] = float(result[i]);
            }
        }
    }
}

}  // namespace

int64_t facelatent_conv3x3_packed_cpu(int64_t inputs, int64_t outputs, int32_t mode) {
    const int64_t axis = mode == FACELATENT_UP ? Up::WEIGHTS : mode == FACELATENT_DOWN ? Down::WEIGHTS : Conv::WEIGHTS;
    return axis * axis * round_up(inputs, LANES) * round_up(outputs, vectors_for(outputs) * LANES);
}

int facelatent_conv3x3_pack_cpu(const facelatent_conv3x3_pack* call) {
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (call->mode == FACELATENT_UP)
        pack<Up>(*call);
    else if (call->mode == FACELATENT_DOWN)
        pack<Down>(*call);
    else
        pack<Conv>(*call);
    return FACELATENT_OK;
}

int facelatent_conv3x3_cpu(const facelatent_conv3x3* call) {
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (call->epilogue && !facelatent_abi_matches(call->epilogue)) return FACELATENT_BAD_ABI;
    if (call->dtype == FACELATENT_F32) return run<float>(*call);
    if (call->dtype == FACELATENT_BF16) return run<BFloat16>(*call);
    return FACELATENT_BAD_DTYPE;
}
