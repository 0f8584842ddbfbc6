// 3x3 convolutions of StyleGAN2 on the CPU by Winograd's algorithm, with the layer's epilogue.
#pragma once

#include "epilogue.h"

enum facelatent_conv3x3_mode {
    FACELATENT_SAME = 0, /* padding 1 */
    FACELATENT_UP = 1,   /* transposed, stride 2: from [h,w] to [2h+1,2w+1] */
    FACELATENT_DOWN = 2, /* stride 2, no padding: from [2h+1,2w+1] to [h,w] */
};

typedef struct {
    int32_t abi, bytes;
    int32_t dtype;   /* of x and y: float32 or bfloat16; the convolution works in float */
    int32_t mode;    /* a facelatent_conv3x3_mode */
    int32_t threads;
    int64_t n, inputs, outputs, h, w; /* of x, dense and channels_last */
    const void* x;
    const float* packed;                 /* from facelatent_conv3x3_pack_cpu */
    void* y;                             /* the convolution, float, dense and channels_last; null with an epilogue */
    const facelatent_epilogue* epilogue; /* or null; its x is ignored, its n, c, h and w are those of the result */
} facelatent_conv3x3;

typedef struct {
    int32_t abi, bytes;
    int32_t mode, threads;
    int64_t inputs, outputs;
    const float* weight; /* [outputs,inputs,3,3]; strides count floats, negative ones turn the taps */
    int64_t output_stride, input_stride, row_stride, column_stride;
    float* packed;
} facelatent_conv3x3_pack;

/* How many floats the packed form of weights takes. */
FACELATENT_API int64_t facelatent_conv3x3_packed_cpu(int64_t inputs, int64_t outputs, int32_t mode);
FACELATENT_API int facelatent_conv3x3_pack_cpu(const facelatent_conv3x3_pack* call);
FACELATENT_API int facelatent_conv3x3_cpu(const facelatent_conv3x3* call);
