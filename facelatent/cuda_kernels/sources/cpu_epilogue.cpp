// The fused epilogue of a layer and its gradient on the CPU; see epilogue.h.
#include <algorithm>
#include <vector>

#include "cpu_epilogue_row.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace facelatent {
namespace {

struct Share {
    int64_t first, last;  // of a line of `total` pieces, this thread's

    explicit Share(int64_t total) {
        int64_t thread = 0, threads = 1;
#ifdef _OPENMP
        thread = omp_get_thread_num(), threads = omp_get_num_threads();
#endif
        first = total * thread / threads, last = total * (thread + 1) / threads;
    }
};

template <class T>
int forward(const facelatent_epilogue& call) {
    using A = typename Accumulator<T>::type;
    const int64_t c = call.c, w = call.w, in_h = call.h + 3 - call.pad_top - call.pad_bottom;
    const std::vector<T> zeros(call.blur ? (w + 1) * c : 0, T(0));
#pragma omp parallel num_threads(std::max(call.threads, 1))
    {
        std::vector<A> work(call.blur ? (w + 3) * c : 0);
        Sample<A> sample;
        int64_t sampled = -1;
        const Share share(call.n * call.h);
        for (int64_t line = share.first; line < share.last; line++) {
            const int64_t n = line / call.h, row = line % call.h;
            if (n != sampled) sample = sample_of<A>(call, n), sampled = n;
            const T* x = static_cast<const T*>(call.x) + n * call.x_batch_stride;
            const T* rows[4] = {x + row * call.x_row_stride};
            for (int64_t tap = 0; call.blur && tap < 4; tap++) {
                const int64_t source = row - call.pad_top + tap;
                rows[tap] = source < 0 || source >= in_h ? zeros.data() : x + source * call.x_row_stride;
            }
            const A* noise = static_cast<const A*>(call.noise);
            T* y = static_cast<T*>(call.y);
            A* rgb = static_cast<A*>(call.rgb);
            epilogue_row(sample, call.blur, rows, c, w, noise ? noise + n * call.noise_batch_stride + row * w : nullptr,
                         y ? y + n * call.y_batch_stride + row * call.y_row_stride : nullptr,
                         rgb ? rgb + n * call.rgb_batch_stride + row * call.rgb_row_stride : nullptr,
                         call.rgb_channel_stride, work.data());
        }
    }
    return FACELATENT_OK;
}

// Sums over pixels, for each channel: gradients of demodulation, bias, style, and the three rows of rgb_weight.
constexpr int SUMS = 6;

// One row: from b, gy and grgb to the gradient of b; adds to `sums` [SUMS, c].
template <class A, class X, class T>
void backward_pixels(const Sample<A>& sample, const X* b, int64_t c, int64_t w, const A* noise, const T* gy,
                     const A* const grgb[3], A* gb, A* g_noise, A* sums) {
    const A *__restrict demodulation = sample.demodulation.data(), *__restrict bias = sample.bias.data();
    const A *__restrict style = sample.style.data(), *__restrict weights = sample.rgb_weight.data();
    const A slope = sample.slope, gain = sample.gain, limit = sample.limit;
    A* __restrict sum = sums;
    for (int64_t column = 0; column < w; column++) {
        const X* __restrict in = b + column * c;
        const T* __restrict above = gy ? gy + column * c : nullptr;
        A* __restrict out = gb + column * c;
        const A grain = noise ? noise[column] : A(0);
        const A red = grgb[0][column], green = grgb[1][column], blue = grgb[2][column];
        A total = 0;
#pragma omp simd reduction(+ : total)
        for (int64_t i = 0; i < c; i++) {
            const A value = A(in[i]), g = above ? A(above[i]) : A(0);
            const A z = value * demodulation[i] + (grain + bias[i]);
            const A free = (z > 0 ? z : z * slope) * gain;
            const bool inside = free >= -limit && free <= limit;
            A a = free > limit ? limit : free;
            a = a < -limit ? -limit : a;
            const A ga = g * style[i] + red * weights[i] + green * weights[i + c] + blue * weights[i + 2 * c];
            const A gz = inside ? ga * gain * (z > 0 ? A(1) : slope) : A(0);
            out[i] = gz * demodulation[i];
            total += gz;
            sum[i] += gz * value;
            sum[i + c] += gz;
            sum[i + 2 * c] += g * a;
            sum[i + 3 * c] += red * a;
            sum[i + 4 * c] += green * a;
            sum[i + 5 * c] += blue * a;
        }
        if (g_noise) g_noise[column] = total;
    }
}

// A thread's rows of gx of one sample, and its part of the sums.
template <class T>
class Backward {
    using A = typename Accumulator<T>::type;

   public:
    explicit Backward(const facelatent_epilogue_backward& call)
        : call_(call), c_(call.c), in_w_(call.w + call.blur), in_h_(call.h + call.blur),
          zeros_(call.blur ? in_w_ * c_ : 0, T(0)), no_colour_(call.w, A(0)), blurred_(call.blur ? (call.w + 3) * c_ : 0),
          gb_((call.w + 4) * c_, A(0)), ring_(call.blur ? 4 * in_w_ * c_ : 0), row_sums_(SUMS * c_) {}

    void run(int64_t n, int64_t first, int64_t last, double* sums) {
        const Sample<A> sample = sample_of<A>(call_, n);
        if (!call_.blur) {
            for (int64_t row = first; row < last; row++) {
                gradient_of_row(sample, n, row, sums);
                T* gx = gx_row(n, row);
                for (int64_t i = 0; i < in_w_ * c_; i++) put(gx[i], gb()[i]);
            }
            return;
        }
        std::fill(ring_.begin(), ring_.end(), A(0));
        // Row i of gx takes rows i - 2 to i + 1 of the gradient of b; rows of another thread's share are not summed.
        for (int64_t row = first - 2; row <= last; row++) {
            if (row >= 0 && row < call_.h) {
                const bool own = row >= first && row < last;
                gradient_of_row(sample, n, row, own ? sums : nullptr);
                const A* taps[4] = {gb() - 2 * c_, gb() - c_, gb(), gb() + c_};
                blur_columns(taps, in_w_ * c_, ring(row));
            } else {
                std::fill_n(ring(row), in_w_ * c_, A(0));
            }
            if (row <= first) continue;
            const A* taps[4] = {ring(row - 3), ring(row - 2), ring(row - 1), ring(row)};
            blur_columns(taps, in_w_ * c_, gx_row(n, row - 1));
        }
    }

   private:
    A* gb() { return gb_.data() + 2 * c_; }
    A* ring(int64_t row) { return ring_.data() + ((row + 4) % 4) * in_w_ * c_; }
    T* gx_row(int64_t n, int64_t row) { return static_cast<T*>(call_.gx) + (n * in_h_ + row) * in_w_ * c_; }

    void gradient_of_row(const Sample<A>& sample, int64_t n, int64_t row, double* sums) {
        const A* noise = static_cast<const A*>(call_.noise);
        if (noise) noise += n * call_.noise_batch_stride + row * call_.w;
        const T* gy = static_cast<const T*>(call_.gy);
        if (gy) gy += (n * call_.h + row) * call_.w * c_;
        const A* grgb[3];
        for (int64_t k = 0; k < 3; k++)
            grgb[k] = call_.grgb ? static_cast<const A*>(call_.grgb) + ((n * 3 + k) * call_.h + row) * call_.w
                                 : no_colour_.data();
        A* g_noise = static_cast<A*>(call_.g_noise);
        if (g_noise) g_noise += (n * call_.h + row) * call_.w;
        std::fill(row_sums_.begin(), row_sums_.end(), A(0));
        const T* x = static_cast<const T*>(call_.x) + n * in_h_ * in_w_ * c_;
        if (call_.blur)
            backward_pixels(sample, blur(x, row), c_, call_.w, noise, gy, grgb, gb(), g_noise, row_sums_.data());
        else
            backward_pixels(sample, x + row * in_w_ * c_, c_, call_.w, noise, gy, grgb, gb(), g_noise, row_sums_.data());
        // Sums of a row in the accumulator's precision, of rows in double: a million summands cost no digits.
        for (int64_t i = 0; sums && i < SUMS * c_; i++) sums[i] += row_sums_[i];
    }

    // Row `row` of b.
    const A* blur(const T* x, int64_t row) {
        const T* rows[4];
        for (int64_t tap = 0; tap < 4; tap++) {
            const int64_t source = row - 1 + tap;
            rows[tap] = source < 0 || source >= in_h_ ? zeros_.data() : x + source * in_w_ * c_;
        }
        std::fill_n(blurred_.begin(), c_, A(0));
        std::fill_n(blurred_.end() - c_, c_, A(0));
        blur_columns(rows, in_w_ * c_, blurred_.data() + c_);
        A* b = blurred_.data();
        // Every value is read for the last time where it is overwritten.
        for (int64_t i = 0; i < call_.w * c_; i++)
            b[i] = A(OUTER) * (b[i] + b[i + 3 * c_]) + A(INNER) * (b[i + c_] + b[i + 2 * c_]);
        return b;
    }

    const facelatent_epilogue_backward& call_;
    const int64_t c_, in_w_, in_h_;
    const std::vector<T> zeros_;
    const std::vector<A> no_colour_;
    std::vector<A> blurred_, gb_, ring_, row_sums_;
};

template <class T>
int backward(const facelatent_epilogue_backward& call) {
    using A = typename Accumulator<T>::type;
    const int64_t c = call.c, rows = call.h + call.blur;
    const int threads = std::max(call.threads, 1);
    std::vector<double> sums(size_t(threads) * call.n * SUMS * c, 0.0);
#pragma omp parallel num_threads(threads)
    {
        int64_t thread = 0;
#ifdef _OPENMP
        thread = omp_get_thread_num();
#endif
        Backward<T> gradients(call);
        const Share share(call.n * rows);
        for (int64_t line = share.first; line < share.last;) {
            const int64_t n = line / rows, first = line % rows, last = std::min(rows, first + share.last - line);
            gradients.run(n, first, last, sums.data() + (thread * call.n + n) * SUMS * c);
            line += last - first;
        }
    }
    // Threads are added in their order: the same number of them gives the same bits.
    for (int64_t thread = 1; thread < threads; thread++)
        for (int64_t i = 0; i < call.n * SUMS * c; i++) sums[i] += sums[thread * call.n * SUMS * c + i];
    void* const targets[] = {call.g_demodulation, call.g_bias, call.g_style, call.g_rgb_weight};
    for (int64_t n = 0; n < call.n; n++)
        for (int64_t k = 0; k < SUMS; k++) {
            A* target = static_cast<A*>(targets[std::min<int64_t>(k, 3)]);
            if (target == nullptr) continue;
            target += k < 3 ? n * c : (n * 3 + k - 3) * c;
            for (int64_t i = 0; i < c; i++) target[i] = A(sums[(n * SUMS + k) * c + i]);
        }
    return FACELATENT_OK;
}

// One row of a colour: `near` and `far` are the rows of the smaller picture that it lies between.
template <class A>
void enlarge_row(const A* near, const A* far, int64_t w, A* column, A* y) {
    for (int64_t i = 0; i < w; i++) column[i + 1] = A(INNER) * near[i] + A(OUTER) * far[i];
    column[0] = column[w + 1] = 0;
    for (int64_t i = 0; i < w; i++) {
        y[2 * i] += A(OUTER) * column[i] + A(INNER) * column[i + 1];
        y[2 * i + 1] += A(INNER) * column[i + 1] + A(OUTER) * column[i + 2];
    }
}

template <class A>
int skip_add(const facelatent_skip_add& call) {
    const int64_t small_h = call.h / 2, small_w = call.w / 2;
    const A limit = call.clamp < 0 ? std::numeric_limits<A>::infinity() : A(call.clamp);
    const std::vector<A> zeros(small_w, A(0));
#pragma omp parallel num_threads(std::max(call.threads, 1))
    {
        std::vector<A> column(small_w + 2);
        const Share share(call.n * 3 * call.h);
        for (int64_t line = share.first; line < share.last; line++) {
            const int64_t plane = line / call.h, row = line % call.h;
            const A* __restrict rgb = static_cast<const A*>(call.rgb) + line * call.w;
            A* __restrict y = static_cast<A*>(call.y) + line * call.w;
            const A bias = static_cast<const A*>(call.bias)[plane % 3];
            for (int64_t i = 0; i < call.w; i++) {
                A value = rgb[i] + bias;
                value = value > limit ? limit : value;
                y[i] = value < -limit ? -limit : value;
            }
            if (call.previous == nullptr) continue;
            const A* previous = static_cast<const A*>(call.previous) + plane * small_h * small_w;
            const int64_t near = row / 2, far = row % 2 ? near + 1 : near - 1;
            const bool outside = far < 0 || far >= small_h;
            enlarge_row(previous + near * small_w, outside ? zeros.data() : previous + far * small_w, small_w,
                        column.data(), y);
        }
    }
    return FACELATENT_OK;
}

}  // namespace
}  // namespace facelatent

int facelatent_epilogue_cpu(const facelatent_epilogue* call) {
    using namespace facelatent;
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (call->dtype == FACELATENT_F32) return forward<float>(*call);
    if (call->dtype == FACELATENT_BF16) return forward<BFloat16>(*call);
    if (call->dtype == FACELATENT_F64) return forward<double>(*call);
    return FACELATENT_BAD_DTYPE;
}

int facelatent_epilogue_backward_cpu(const facelatent_epilogue_backward* call) {
    using namespace facelatent;
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (call->dtype == FACELATENT_F32) return backward<float>(*call);
    if (call->dtype == FACELATENT_BF16) return backward<BFloat16>(*call);
    if (call->dtype == FACELATENT_F64) return backward<double>(*call);
    return FACELATENT_BAD_DTYPE;
}

int facelatent_skip_add_cpu(const facelatent_skip_add* call) {
    using namespace facelatent;
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (call->dtype == FACELATENT_F32) return skip_add<float>(*call);
    if (call->dtype == FACELATENT_F64) return skip_add<double>(*call);
    return FACELATENT_BAD_DTYPE;
}
