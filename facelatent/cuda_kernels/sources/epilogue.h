// What follows a convolution of StyleGAN2, in one pass, and its gradient: the calls, shared by the CPU and CUDA kernels.
//
//   b = blur ? upfirdn2d(x, [1,3,3,1] x [1,3,3,1] / 64, padding 1, gain 4) : x
//   a = clamp(gain * lrelu(b * demodulation + noise + bias))
//   y = a * style                rgb = sum over channels of rgb_weight * a
//
// Pictures are channels_last: the c channels of a pixel, and the pixels of a row, lie side by side. Strides count
// elements. Parameters, rgb and sums are float, or double where dtype is float64.
#pragma once

#include "abi.h"

typedef struct {
    int32_t abi, bytes;
    int32_t dtype; /* of x and y */
    int32_t blur;
    int64_t n, c, h, w; /* of the result; with blur x has w + 1 columns and h + 3 - pad_top - pad_bottom rows */
    const void* x;
    void* y;                    /* may be null */
    void* rgb;                  /* may be null; [n,3,h,w] */
    const void* demodulation;   /* [n,c] or null */
    const void* noise;          /* [1 or n,1,h,w] or null */
    const void* bias;           /* [c] or null */
    const void* style;          /* [n,c] or null */
    const void* rgb_weight;     /* [n,3,c]; null without rgb */
    int64_t noise_batch_stride; /* 0: shared */
    int64_t x_batch_stride, x_row_stride, y_batch_stride, y_row_stride;
    int64_t rgb_batch_stride, rgb_channel_stride, rgb_row_stride;
    double slope, gain, clamp;   /* clamp: negative for none */
    int32_t pad_top, pad_bottom; /* zero rows that the blur has to supply: 1 and 1 for a whole picture */
    int32_t device, threads; /* threads: of the CPU launcher */
    void* stream;
    /* Only on a GPU: rgb becomes the picture so far, clamp(rgb + rgb_bias) + the previous picture enlarged. */
    const void* rgb_bias; /* [3], or null for rgb as above */
    const void* previous; /* [n,3,h/2,w/2], dense, or null */
    double rgb_clamp;     /* negative for none */
} facelatent_epilogue;

/* Gradients of the above. Everything is dense: x and gx [n,h',w',c], gy [n,h,w,c], grgb [n,3,h,w]. */
typedef struct {
    int32_t abi, bytes;
    int32_t dtype; /* of x, gx and gy */
    int32_t blur;
    int64_t n, c, h, w; /* of the result */
    const void* x;
    const void* gy;   /* may be null: zero */
    const void* grgb; /* may be null: zero */
    const void *demodulation, *noise, *bias, *style, *rgb_weight; /* as in the forward call */
    int64_t noise_batch_stride;
    void* gx;
    /* Each may be null: not wanted. Overwritten, not added to. */
    void* g_demodulation; /* [n,c] */
    void* g_noise;        /* [n,1,h,w], also where the noise is shared */
    void* g_bias;         /* [n,c]: the caller sums over n */
    void* g_style;        /* [n,c] */
    void* g_rgb_weight;   /* [n,3,c] */
    double slope, gain, clamp;
    int32_t device, threads; /* threads: of the CPU launcher */
    void* stream;
    /* A GPU leaves sums over pixels in parts, and of the pointers to their results takes only g_noise: */
    void* unblurred;  /* [n,h,w,c] of dtype, with blur only: room for the gradient of what the blur gave */
    void* partial;    /* [n,segments,6,c]: for g_demodulation, g_bias, g_style and the three of g_rgb_weight */
    int64_t segments; /* what facelatent_epilogue_backward_segments gives for this call */
} facelatent_epilogue_backward;

/* y = clamp(rgb + bias) + previous, enlarged twice with the filter [1,3,3,1]. float32 or float64, all dense. */
typedef struct {
    int32_t abi, bytes;
    int32_t dtype, device, threads;
    double clamp; /* negative for none */
    int64_t n, h, w;
    const void* rgb;      /* [n,3,h,w] */
    const void* bias;     /* [3] */
    const void* previous; /* [n,3,h/2,w/2] or null */
    void* y;              /* [n,3,h,w] */
    void* stream;
} facelatent_skip_add;

FACELATENT_API int facelatent_epilogue_cpu(const facelatent_epilogue* call);
FACELATENT_API int facelatent_epilogue_cuda(const facelatent_epilogue* call);
FACELATENT_API int facelatent_epilogue_backward_cpu(const facelatent_epilogue_backward* call);
FACELATENT_API int facelatent_epilogue_backward_cuda(const facelatent_epilogue_backward* call);
FACELATENT_API int64_t facelatent_epilogue_backward_segments(const facelatent_epilogue_backward* call); /* -1: refused */
FACELATENT_API int facelatent_skip_add_cpu(const facelatent_skip_add* call);
FACELATENT_API int facelatent_skip_add_cuda(const facelatent_skip_add* call);
