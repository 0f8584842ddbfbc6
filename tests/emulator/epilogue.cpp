// Runs the tiled kernels of the fused layer epilogue on the host: every thread of a block through a phase, then all
// through the next. As a library it takes the calls of the CUDA launchers; with a main (-DSELF_CHECK) it compares
// results of random layers with the oracle, for sanitizers.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "epilogue_launch.h"

namespace facelatent {

// bfloat16 by its bits, rounded to nearest even.
struct BFloat16 {
    uint16_t bits;
    BFloat16() = default;
    explicit BFloat16(float value) {
        uint32_t word;
        std::memcpy(&word, &value, 4);
        bits = value != value ? 0x7fc0 : static_cast<uint16_t>((word + 0x7fff + (word >> 16 & 1)) >> 16);
    }
    explicit operator float() const {
        const uint32_t word = uint32_t(bits) << 16;
        float value;
        std::memcpy(&value, &word, 4);
        return value;
    }
};
using Half = _Float16;

struct OnHost {
    template <typename K>
    int run(const Layer& a, const Plan& plan) {
        using R = typename K::R;
        if (plan.blocks < 1 || plan.threads() < 1 || plan.threads() > THREADS || plan.shared_bytes > 48 << 10) abort();
        for (int64_t block = 0; block < plan.blocks; ++block) {
            // On the heap and of the exact size, so that a sanitizer sees what lies beyond it; NaN until written.
            std::unique_ptr<R[]> shared(new R[plan.shared_bytes / sizeof(R)]);
            std::fill_n(shared.get(), plan.shared_bytes / sizeof(R), std::numeric_limits<R>::quiet_NaN());
            std::vector<K> threads(plan.threads());
            for (int t = 0; t < plan.threads(); ++t) threads[t].begin(a, plan, block, t);
            const int groups = (threads[0].at.end - threads[0].at.row + GROUP - 1) / GROUP;
            for (int group = 0; group < groups; ++group) {
                for (auto& thread : threads) thread.rows(a, plan, shared.get());
                if (!K::sums(a)) continue;
                for (int t = 0; t < plan.threads(); ++t) threads[t].meet(a, plan, shared.get(), t);
            }
            if constexpr (K::TOTALS) {
                for (auto& thread : threads) thread.end(plan, shared.get());
                for (int t = 0; t < plan.threads(); ++t) threads[t].total(a, plan, shared.get(), t);
            }
        }
        return FACELATENT_OK;
    }

    template <typename R, int WIDTH>
    int skip(const Layer& a, int64_t blocks) {
        for (int64_t index = 0; index < blocks * THREADS; ++index) skip_phase<R, WIDTH>(a, index);
        return FACELATENT_OK;
    }
};

}  // namespace facelatent

using namespace facelatent;

FACELATENT_API int facelatent_epilogue_cuda(const facelatent_epilogue* call) {
    return launch_forward<Half, BFloat16>(call, OnHost{});
}
FACELATENT_API int facelatent_epilogue_backward_cuda(const facelatent_epilogue_backward* call) {
    return launch_backward<Half, BFloat16>(call, OnHost{});
}
FACELATENT_API int64_t facelatent_epilogue_backward_segments(const facelatent_epilogue_backward* call) {
    return gradient_segments<Half, BFloat16>(call);
}
FACELATENT_API int facelatent_skip_add_cuda(const facelatent_skip_add* call) { return launch_skip_add(call, OnHost{}); }
FACELATENT_API const char* facelatent_error(int code) { return facelatent_own_error(code); }

#ifdef SELF_CHECK
namespace {

struct Shape {
    int n, c, h, w;
};
// What a layer may lack or have.
struct Options {
    bool blur, demodulation, noise, noise_shared, bias, style, rgb, y, clamp, picture;
};

std::mt19937 random_bits(1);

template <typename T>
std::vector<T> drawn(size_t count) {
    std::normal_distribution<float> normal;
    std::vector<T> values(count);
    for (auto& value : values) value = narrow<T>(normal(random_bits));
    return values;
}

double worst = 0;

template <typename T>
void compare(double found, double expected, const char* what, double roundings = 4) {
    const double step = std::is_same_v<T, BFloat16> ? 8e-3 : std::is_same_v<T, Half> ? 1e-3 : 2e-6;
    const double error = std::fabs(found - expected) / (1 + std::fabs(expected));
    worst = std::fmax(worst, error / step);
    if (!(error <= roundings * step)) {
        std::fprintf(stderr, "%s: %g, expected %g\n", what, found, expected);
        std::exit(1);
    }
}

template <typename T>
void check_forward(const Shape& s, const Options& o, int32_t dtype) {
    using R = Real<T>;
    const int rows = s.h + o.blur, columns = s.w + o.blur;
    const auto x = drawn<T>(size_t(s.n) * rows * columns * s.c);
    const auto demodulation = drawn<R>(s.n * s.c), style = drawn<R>(s.n * s.c), bias = drawn<R>(s.c);
    const auto noise = drawn<R>(size_t(o.noise_shared ? 1 : s.n) * s.h * s.w), weight = drawn<R>(s.n * 3 * s.c);
    const auto rgb_bias = drawn<R>(3), previous = drawn<R>(size_t(s.n) * 3 * (s.h / 2) * (s.w / 2) + 1);
    std::vector<T> y(size_t(s.n) * s.h * s.w * s.c);
    std::vector<R> rgb(size_t(s.n) * 3 * s.h * s.w);
    facelatent_epilogue call = {};
    call.abi = FACELATENT_ABI;
    call.bytes = sizeof(call);
    call.dtype = dtype;
    call.blur = o.blur;
    call.n = s.n, call.c = s.c, call.h = s.h, call.w = s.w;
    call.x = x.data();
    call.y = o.y ? y.data() : nullptr;
    call.rgb = o.rgb ? rgb.data() : nullptr;
    call.demodulation = o.demodulation ? demodulation.data() : nullptr;
    call.noise = o.noise ? noise.data() : nullptr;
    call.bias = o.bias ? bias.data() : nullptr;
    call.style = o.style ? style.data() : nullptr;
    call.rgb_weight = o.rgb ? weight.data() : nullptr;
    call.noise_batch_stride = o.noise_shared ? 0 : int64_t(s.h) * s.w;
    call.x_row_stride = int64_t(columns) * s.c;
    call.x_batch_stride = rows * call.x_row_stride;
    call.y_row_stride = int64_t(s.w) * s.c;
    call.y_batch_stride = s.h * call.y_row_stride;
    call.rgb_row_stride = s.w;
    call.rgb_channel_stride = int64_t(s.h) * s.w;
    call.rgb_batch_stride = 3 * call.rgb_channel_stride;
    call.slope = 0.2;
    call.gain = 1.4142135;
    call.clamp = o.clamp ? 0.7 : -1;
    call.pad_top = call.pad_bottom = o.blur;
    if (o.picture) {
        call.rgb_bias = rgb_bias.data();
        call.previous = s.h % 2 || s.w % 2 ? nullptr : previous.data();
        call.rgb_clamp = 0.9;
    }
    if (facelatent_epilogue_cuda(&call)) std::abort();
    const Layer a = forward_layer(call);
    for (int n = 0; n < s.n; ++n) {
        for (int row = 0; row < s.h; ++row) {
            for (int column = 0; column < s.w; ++column) {
                const size_t pixel = (size_t(n) * s.h + row) * s.w + column;
                for (int c = 0; c < s.c && o.y; ++c)
                    compare<T>(widen<T>(y[pixel * s.c + c]), y_pixel<T>(a, n, c, row, column), "y");
                for (int k = 0; k < 3 && o.rgb; ++k) {
                    const R sum = rgb_pixel<T>(a, n, k, row, column);
                    const double found = rgb[((size_t(n) * 3 + k) * s.h + row) * s.w + column];
                    compare<float>(found / s.c, picture_pixel<R>(a, sum, n, k, row, column) / s.c, "rgb");
                }
            }
        }
    }
}

template <typename T>
void check_backward(const Shape& s, const Options& o, int32_t dtype) {
    using R = Real<T>;
    const int rows = s.h + o.blur, columns = s.w + o.blur;
    const auto x = drawn<T>(size_t(s.n) * rows * columns * s.c), gy = drawn<T>(size_t(s.n) * s.h * s.w * s.c);
    const auto demodulation = drawn<R>(s.n * s.c), style = drawn<R>(s.n * s.c), bias = drawn<R>(s.c);
    const auto noise = drawn<R>(size_t(o.noise_shared ? 1 : s.n) * s.h * s.w), weight = drawn<R>(s.n * 3 * s.c);
    const auto grgb = drawn<R>(size_t(s.n) * 3 * s.h * s.w);
    std::vector<T> gx(x.size()), unblurred(o.blur ? gy.size() : 0);
    std::vector<R> gnoise(size_t(s.n) * s.h * s.w);
    facelatent_epilogue_backward call = {};
    call.abi = FACELATENT_ABI;
    call.bytes = sizeof(call);
    call.dtype = dtype;
    call.blur = o.blur;
    call.n = s.n, call.c = s.c, call.h = s.h, call.w = s.w;
    call.x = x.data();
    call.gy = o.y ? gy.data() : nullptr;
    call.grgb = o.rgb ? grgb.data() : nullptr;
    call.demodulation = o.demodulation ? demodulation.data() : nullptr;
    call.noise = o.noise ? noise.data() : nullptr;
    call.bias = o.bias ? bias.data() : nullptr;
    call.style = o.style ? style.data() : nullptr;
    call.rgb_weight = o.rgb ? weight.data() : nullptr;
    call.noise_batch_stride = o.noise_shared ? 0 : int64_t(s.h) * s.w;
    call.gx = gx.data();
    call.g_noise = o.noise ? gnoise.data() : nullptr;
    call.slope = 0.2;
    call.gain = 1.4142135;
    call.clamp = o.clamp ? 0.7 : -1;
    call.unblurred = o.blur ? unblurred.data() : nullptr;
    call.segments = facelatent_epilogue_backward_segments(&call);
    std::vector<R> partial(s.n * call.segments * GRADIENTS * s.c, std::numeric_limits<R>::quiet_NaN());
    call.partial = partial.data();
    if (facelatent_epilogue_backward_cuda(&call)) std::abort();

    const Layer a = backward_layer(call);
    std::vector<double> gblurred(gy.size()), sums(size_t(s.n) * GRADIENTS * s.c);
    for (int n = 0; n < s.n; ++n) {
        for (int row = 0; row < s.h; ++row) {
            for (int column = 0; column < s.w; ++column) {
                const size_t pixel = (size_t(n) * s.h + row) * s.w + column;
                double over_channels = 0;
                for (int c = 0; c < s.c; ++c) {
                    const double g = biased_gradient<T>(a, n, c, row, column);
                    const double activation = activation_pixel<T>(a, n, c, row, column) * double(a.gain);
                    const double factor = o.demodulation ? demodulation[n * s.c + c] : 1;
                    gblurred[pixel * s.c + c] = g * factor;
                    over_channels += g;
                    double* sum = &sums[size_t(n) * GRADIENTS * s.c + c];
                    sum[0] += g * blurred_pixel<T>(a, n, c, row, column);
                    sum[s.c] += g;
                    sum[2 * s.c] += o.y ? widen<T>(gy[pixel * s.c + c]) * activation : 0;
                    for (int k = 0; k < 3 && o.rgb; ++k)
                        sum[(3 + k) * s.c] += grgb[((size_t(n) * 3 + k) * s.h + row) * s.w + column] * activation;
                }
                if (o.noise) compare<float>(gnoise[pixel] / s.c, over_channels / s.c, "g_noise");
            }
        }
    }
    for (int n = 0; n < s.n; ++n) {
        for (int row = 0; row < rows; ++row) {
            for (int column = 0; column < columns; ++column) {
                for (int c = 0; c < s.c; ++c) {
                    double expected = 0;
                    for (int i = 0; i < (o.blur ? TAPS : 1); ++i) {
                        for (int j = 0; j < (o.blur ? TAPS : 1); ++j) {
                            const int y = row - i + o.blur, z = column - j + o.blur;
                            if (y < 0 || y >= s.h || z < 0 || z >= s.w) continue;
                            const double factor = o.blur ? tap<double>(i) * tap<double>(j) * BLUR_SCALE : 1;
                            expected += factor * gblurred[((size_t(n) * s.h + y) * s.w + z) * s.c + c];
                        }
                    }
                    const size_t at = ((size_t(n) * rows + row) * columns + column) * s.c + c;
                    compare<T>(widen<T>(gx[at]), expected, "gx", 20);  // rounded before the blur too
                }
            }
        }
        for (int q = 0; q < GRADIENTS; ++q) {
            for (int c = 0; c < s.c; ++c) {
                double found = 0;
                for (int64_t segment = 0; segment < call.segments; ++segment)
                    found += partial[((n * call.segments + segment) * GRADIENTS + q) * s.c + c];
                const double scale = s.h * s.w;
                compare<float>(found / scale, sums[(size_t(n) * GRADIENTS + q) * s.c + c] / scale, "a sum");
            }
        }
    }
}

template <typename R>
void check_skip(const Shape& s, int32_t dtype, bool has_previous) {
    const auto rgb = drawn<R>(size_t(s.n) * 3 * s.h * s.w), bias = drawn<R>(3);
    const auto previous = drawn<R>(size_t(s.n) * 3 * (s.h / 2) * (s.w / 2));
    std::vector<R> out(rgb.size());
    facelatent_skip_add call = {};
    call.abi = FACELATENT_ABI;
    call.bytes = sizeof(call);
    call.dtype = dtype;
    call.n = s.n, call.h = s.h, call.w = s.w;
    call.rgb = rgb.data(), call.bias = bias.data(), call.y = out.data();
    call.previous = has_previous ? previous.data() : nullptr;
    call.clamp = 0.8;
    if (facelatent_skip_add_cuda(&call)) std::abort();
    Layer a = {};
    a.n = s.n, a.h = s.h, a.w = s.w;
    a.rgb_bias = call.bias, a.previous = call.previous, a.rgb_limit = call.clamp;
    for (size_t i = 0; i < out.size(); ++i) {
        const int column = i % s.w, row = i / s.w % s.h, plane = i / s.w / s.h;
        compare<float>(out[i], picture_pixel<R>(a, rgb[i], plane / 3, plane % 3, row, column), "skip_add");
    }
}

template <typename T>
void check_type(int32_t dtype) {
    // Vectors and none, more channels than threads, one pixel, sides beside every tile's.
    const Shape shapes[] = {{1, 32, 8, 70}, {2, 40, 37, 5}, {1, 7, 9, 11}, {2, 1, 1, 1}, {1, 130, 3, 4},
                            {1, 1032, 2, 2}, {1, 512, 5, 3}, {3, 8, 66, 18}, {1, 16, 70, 66}};
    for (const Shape& shape : shapes) {
        for (int bits = 0; bits < 16; ++bits) {
            const bool blur = bits & 1, rgb = bits & 2, y = bits & 4 || !rgb, rest = bits & 8;
            const Options some = {blur, rest, !rest, bool(bits & 4), rest, rest && y, rgb, y, !rest, rgb && rest};
            check_forward<T>(shape, some, dtype);
            check_backward<T>(shape, some, dtype);
            const Options all = {blur, true, true, rest, true, true, rgb, y, true, rgb && rest};
            check_forward<T>(shape, all, dtype);
            check_backward<T>(shape, all, dtype);
        }
    }
}

}  // namespace

int main() {
    check_type<float>(FACELATENT_F32);
    check_type<Half>(FACELATENT_F16);
    check_type<BFloat16>(FACELATENT_BF16);
    check_type<double>(FACELATENT_F64);
    for (const Shape& shape : {Shape{2, 3, 8, 16}, Shape{1, 3, 6, 10}, Shape{1, 3, 4, 4}}) {
        check_skip<float>(shape, FACELATENT_F32, true);
        check_skip<double>(shape, FACELATENT_F64, true);
    }
    check_skip<float>({1, 3, 5, 7}, FACELATENT_F32, false);
    std::printf("worst error %.3f of a rounding\n", worst);
}
#endif
