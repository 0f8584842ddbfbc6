// upfirdn2d on the CPU: out row by out row, first the taps along y into a short buffer, then those along x.
//
// A picture is taken as rows of pixels of `inner` dense numbers: 1 for planes, c for channels_last. The buffer stays in
// the first cache level, and both passes run over dense numbers, which the compiler vectorises.

#include <algorithm>
#include <vector>

#include "abi.h"
#include "arguments.h"
#include "cpu_types.h"
#include "pixel.h"

namespace facelatent {
namespace {

constexpr int64_t BUFFER = 4096;    // numbers of a block's buffer, about
constexpr int64_t STRIP = 32;       // out rows that one task takes

template <typename A>
struct Filter {
    std::vector<A> values;
    bool separable;
    int taps_x, taps_y;

    explicit Filter(const facelatent_upfirdn2d_arguments& a)
        : separable(a.separable), taps_x(a.taps_x), taps_y(a.taps_y) {
        const int64_t count = separable ? taps_x + taps_y : (int64_t)taps_x * taps_y;
        values.assign(a.filter, a.filter + count);
    }
    const A* along_y() const { return values.data() + taps_x; }
    const A* row(int y) const { return separable ? values.data() : values.data() + (int64_t)y * taps_x; }
};

// buffer = (or +=) sum of up to four weighted rows.
template <int rows, bool accumulate, typename T, typename A>
void add_rows(A* __restrict buffer, const T* const* row, const A* weight, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
        A sum = accumulate ? buffer[i] : A(0);
        for (int j = 0; j < rows; ++j) sum += (A)row[j][i] * weight[j];
        buffer[i] = sum;
    }
}

template <bool accumulate, typename T, typename A>
void add_some_rows(int rows, A* buffer, const T* const* row, const A* weight, int64_t count) {
    if (rows == 4) return add_rows<4, accumulate>(buffer, row, weight, count);
    if (rows == 3) return add_rows<3, accumulate>(buffer, row, weight, count);
    if (rows == 2) return add_rows<2, accumulate>(buffer, row, weight, count);
    return add_rows<1, accumulate>(buffer, row, weight, count);
}

// buffer = sum of `taps.count` rows of x, `stride` apart, each weighted.
template <typename T, typename A>
void weigh_rows(A* buffer, const T* x, int64_t stride, const A* weights, int step, int taps, int64_t count) {
    for (int done = 0; done < taps; done += 4) {
        const T* row[4];
        A weight[4];
        const int rows = std::min(4, taps - done);
        for (int j = 0; j < rows; ++j) {
            row[j] = x + (done + j) * stride;
            weight[j] = weights[(done + j) * step];
        }
        if (done) add_some_rows<true>(rows, buffer, row, weight, count);
        else add_some_rows<false>(rows, buffer, row, weight, count);
    }
}

// out[i] = (or +=) sum of weight[k * step] * in[i * stride + k * inner]; `taps` is known to the compiler where it is not 0.
template <int taps, bool accumulate, typename A>
void convolve(A* __restrict out, const A* in, const A* weights, int step, int count_of_taps, int64_t inner, int64_t count) {
    const int all = taps ? taps : count_of_taps;
    A weight[taps ? taps : 1];
    if (taps) {
        for (int k = 0; k < taps; ++k) weight[k] = weights[k * step];
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) {
            A sum = accumulate ? out[i] : A(0);
            for (int k = 0; k < taps; ++k) sum += in[i + k * inner] * weight[k];
            out[i] = sum;
        }
        return;
    }
    for (int k = 0; k < all; ++k) {
        const A w = weights[k * step];
        const bool add = accumulate || k;
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) out[i] = (add ? out[i] : A(0)) + in[i + k * inner] * w;
    }
    if (!all && !accumulate) std::fill(out, out + count, A(0));
}

// One row of out pixels from the buffer, whose first pixel is in pixel `first_in`.
template <bool accumulate, typename A>
struct RowPass {
    const A *buffer, *weights;
    const Axis& axis;
    int64_t first_in, inner;

    // Any resampling: pixel by pixel.
    void general(A* out, int64_t begin, int64_t end, int64_t origin_out) const {
        for (int64_t o = begin; o < end; ++o) {
            const int64_t origin = o * axis.down - axis.pad, first = ceil_div(origin, axis.up);
            const int tap = (int)(first * axis.up - origin);
            const A* in = buffer + (first - first_in) * inner;
            A* to = out + (o - origin_out) * inner;
            const int count = tap < axis.taps ? (axis.taps - tap - 1) / axis.up + 1 : 0;
            convolve<0, accumulate>(to, in, weights + tap, axis.up, count, inner, inner);
        }
    }

    void same_size(A* out, int64_t begin, int64_t end) const {
        const int64_t count = (end - begin) * inner;
        const A* in = buffer + (begin - axis.pad - first_in) * inner;
        if (axis.taps == 4) convolve<4, accumulate>(out, in, weights, 1, 4, inner, count);
        else convolve<0, accumulate>(out, in, weights, 1, axis.taps, inner, count);
    }

    // Four taps, twice the pixels: pairs of out pixels that share three in pixels.
    void doubled(A* out, int64_t begin, int64_t end) const {
        const int64_t whole = begin + ((begin - axis.pad) & 1);  // from here pairs begin on an in pixel
        general(out, begin, std::min(whole, end), begin);
        const int64_t pairs = std::max<int64_t>(0, (end - whole) / 2);
        const A* __restrict in = buffer + ((whole - axis.pad) / 2 - first_in) * inner;
        A* __restrict to = out + (whole - begin) * inner;
        const A w0 = weights[0], w1 = weights[1], w2 = weights[2], w3 = weights[3];
        const auto pair = [=](const A* at, A* even, A* odd, int64_t d) {
            *even = (accumulate ? *even : A(0)) + at[0] * w0 + at[d] * w2;
            *odd = (accumulate ? *odd : A(0)) + at[d] * w1 + at[2 * d] * w3;
        };
        if (inner == 1) {
#pragma omp simd
            for (int64_t p = 0; p < pairs; ++p) pair(in + p, to + 2 * p, to + 2 * p + 1, 1);
        } else {
            const int64_t d = inner;
            for (int64_t p = 0; p < pairs; ++p)
#pragma omp simd
                for (int64_t i = 0; i < d; ++i) pair(in + p * d + i, to + 2 * p * d + i, to + (2 * p + 1) * d + i, d);
        }
        general(out, std::max(begin, std::min(whole + 2 * pairs, end)), end, begin);
    }

    // Four taps, half the pixels.
    void halved(A* out, int64_t begin, int64_t end) const {
        const A* __restrict in = buffer + (begin * 2 - axis.pad - first_in) * inner;
        A* __restrict to = out;
        const A w0 = weights[0], w1 = weights[1], w2 = weights[2], w3 = weights[3];
        const int64_t d = inner, count = end - begin;
        if (inner == 1) {
#pragma omp simd
            for (int64_t p = 0; p < count; ++p)
                to[p] = (accumulate ? to[p] : A(0)) + in[2 * p] * w0 + in[2 * p + 1] * w1 + in[2 * p + 2] * w2 +
                        in[2 * p + 3] * w3;
        } else {
            for (int64_t p = 0; p < count; ++p)
#pragma omp simd
                for (int64_t i = 0; i < d; ++i) {
                    const A* at = in + 2 * p * d + i;
                    A& result = to[p * d + i];
                    result = (accumulate ? result : A(0)) + at[0] * w0 + at[d] * w1 + at[2 * d] * w2 + at[3 * d] * w3;
                }
        }
    }

    void run(A* out, int64_t begin, int64_t end) const {
        if (axis.up == 1 && axis.down == 1) same_size(out, begin, end);
        else if (axis.taps == 4 && axis.up == 2 && axis.down == 1) doubled(out, begin, end);
        else if (axis.taps == 4 && axis.up == 1 && axis.down == 2) halved(out, begin, end);
        else general(out, begin, end, begin);
    }
};

// A rectangle of out pixels of one plane (or of all channels).
template <typename T>
class Block {
    using A = Accumulator<T>;
    const Filter<A>& filter_;
    const Axis &ax_, &ay_;
    const int64_t inner_;
    int64_t first_in_, in_begin_, in_end_;  // the buffer's first in pixel; the in pixels that exist within it
    std::vector<A> buffer_, row_;

  public:
    Block(const Filter<A>& filter, const Axis& ax, const Axis& ay, int64_t inner, int64_t widest)
        : filter_(filter), ax_(ax), ay_(ay), inner_(inner) {
        buffer_.resize((((widest - 1) * ax.down + ax.taps - 1) / ax.up + 3) * inner);
        if (!std::is_same_v<T, A>) row_.resize(widest * inner);
    }

    void run(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t x0, int64_t x1, int64_t y0, int64_t y1) {
        place(x0);
        for (int64_t out_y = y0; out_y < y1; ++out_y) {
            T* to = y + out_y * y_stride + x0 * inner_;
            A* row;
            if constexpr (std::is_same_v<T, A>) row = to;
            else row = row_.data();
            one_row(x, x_stride, row, x0, x1, taps_of(ay_, out_y));
            if constexpr (!std::is_same_v<T, A>) {
                const int64_t count = (x1 - x0) * inner_;
#pragma omp simd
                for (int64_t i = 0; i < count; ++i) to[i] = (T)row[i];
            }
        }
    }

  private:
    // The buffer for out pixels from x0 on: zeros outside the picture, which nothing overwrites.
    void place(int64_t x0) {
        first_in_ = ceil_div(x0 * ax_.down - ax_.pad, ax_.up);
        const int64_t last = first_in_ + (int64_t)buffer_.size() / inner_;
        in_begin_ = std::min(std::max<int64_t>(0, first_in_), last);
        in_end_ = std::max(in_begin_, std::min(ax_.in, last));
        std::fill(buffer_.begin(), buffer_.end(), A(0));
    }

    void one_row(const T* x, int64_t x_stride, A* row, int64_t x0, int64_t x1, const Taps& taps) {
        A* within = buffer_.data() + (in_begin_ - first_in_) * inner_;
        const int64_t count = (in_end_ - in_begin_) * inner_;
        const T* from = x + taps.first_in * x_stride + in_begin_ * inner_;
        if (!taps.count || !count) {
            std::fill(row, row + (x1 - x0) * inner_, A(0));
        } else if (filter_.separable) {
            weigh_rows(within, from, x_stride, filter_.along_y() + taps.first_tap, ay_.up, taps.count, count);
            RowPass<false, A>{buffer_.data(), filter_.row(0), ax_, first_in_, inner_}.run(row, x0, x1);
        } else {
            const A one = 1;
            for (int j = 0; j < taps.count; ++j) {
                weigh_rows(within, from + j * x_stride, x_stride, &one, 1, 1, count);
                const A* weights = filter_.row(taps.first_tap + j * ay_.up);
                if (j) RowPass<true, A>{buffer_.data(), weights, ax_, first_in_, inner_}.run(row, x0, x1);
                else RowPass<false, A>{buffer_.data(), weights, ax_, first_in_, inner_}.run(row, x0, x1);
            }
        }
    }
};

template <typename T>
int run(const facelatent_upfirdn2d_arguments& a) {
    const bool planes = a.x_stride[3] == 1 && a.y_stride[3] == 1;
    const bool pixels = a.x_stride[1] == 1 && a.y_stride[1] == 1 && a.x_stride[3] == a.c && a.y_stride[3] == a.c;
    if (!planes && !pixels) return FACELATENT_BAD_SIZE;
    const int64_t inner = planes ? 1 : a.c, channels = planes ? a.c : 1;
    const Filter<Accumulator<T>> filter(a);
    const Axis ax{a.in_w, a.pad_left, a.up_x, a.down_x, a.taps_x}, ay{a.in_h, a.pad_top, a.up_y, a.down_y, a.taps_y};
    const int64_t width = std::min(a.out_w, std::max<int64_t>(16, BUFFER * a.up_x / (a.down_x * inner)));
    const int64_t across = (a.out_w + width - 1) / width, strips = (a.out_h + STRIP - 1) / STRIP;
    const int64_t tasks = a.n * channels * strips * across;
#pragma omp parallel num_threads(a.threads) if (tasks > 1)
    {
        Block<T> block(filter, ax, ay, inner, width);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < tasks; ++task) {
            const int64_t x0 = task % across * width, y0 = task / across % strips * STRIP;
            const int64_t plane = task / across / strips, n = plane / channels, c = plane % channels;
            block.run((const T*)a.x + n * a.x_stride[0] + c * a.x_stride[1], a.x_stride[2],
                      (T*)a.y + n * a.y_stride[0] + c * a.y_stride[1], a.y_stride[2], x0,
                      std::min(x0 + width, a.out_w), y0, std::min(y0 + STRIP, a.out_h));
        }
    }
    return FACELATENT_OK;
}

}  // namespace
}  // namespace facelatent

FACELATENT_API int facelatent_upfirdn2d_cpu(const facelatent_upfirdn2d_arguments* a) {
    using namespace facelatent;
    if (!facelatent_abi_matches(a)) return FACELATENT_BAD_ABI;
    switch (a->dtype) {
        case FACELATENT_F32: return run<float>(*a);
        case FACELATENT_F16: return run<Half>(*a);
        case FACELATENT_BF16: return run<BFloat16>(*a);
        case FACELATENT_F64: return run<double>(*a);
        default: return FACELATENT_BAD_DTYPE;
    }
}
