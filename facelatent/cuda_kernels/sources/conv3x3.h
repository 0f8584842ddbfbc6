// 3x3 convolutions of StyleGAN2 on the CPU by Winograd's algorithm, with the layer's epilogue.
#pragma once

#include <stdint.h>

#include "epilogue.h"

enum { FACELATENT_CONV3X3_ABI = 1 };

typedef struct {
    int32_t abi, bytes;
    int32_t dtype; /* of x and y: float32 or bfloat16; sums are float */
    int32_t up;    /* 0: padding 1; 1: transposed with stride 2, [h,w] to [2h+1,2w+1] */
    int64_t n, inputs, outputs, h, w; /* of x, dense and channels_last */
    const void* x;
    const float* packed;                /* from facelatent_conv3x3_pack_cpu */
    void* y;                            /* the convolution, dense and channels_last; null with an epilogue */
    const facelatent_epilogue* epilogue; /* or null; its x is ignored, it must fit the convolution's result */
} facelatent_conv3x3;

#ifdef __cplusplus
extern "C" {
#endif
/* How many floats the packed form of weights takes. */
int64_t facelatent_conv3x3_packed_cpu(int64_t inputs, int64_t outputs, int32_t up);
/* weight [outputs,inputs,3,3] with any strides; negative ones turn its taps. */
int facelatent_conv3x3_pack_cpu(const float* weight, int64_t inputs, int64_t outputs, int64_t input_stride,
                                int64_t output_stride, int64_t row_stride, int64_t column_stride, int32_t up,
                                float* packed);
int facelatent_conv3x3_cpu(const facelatent_conv3x3* call);
#ifdef __cplusplus
}
#endif
