// Arguments of MobileStyleGAN's fused synthesis (cpu_mobile.cpp), mirrored by facelatent/stylegan_ops/mobile_fused.py.
#pragma once
#include "abi.h"

#define FACELATENT_MOBILE_BLOCKS 12

// A depthwise 3x3 and pointwise 1x1 convolution; all arrays dense.
typedef struct {
  const float *depthwise;  // [inputs, 3, 3]
  const float *weight;     // [outputs, inputs]
  const float *bias;       // [outputs]
  const float *noise;      // [1 or n, side, side], may be null
} facelatent_mobile_layer;

// Block b draws at 8 * 2^b px: inverse wavelet of inputs = 4 C channels, layers C -> outputs and outputs -> outputs.
typedef struct {
  int64_t inputs, outputs;
  facelatent_mobile_layer layers[2];
} facelatent_mobile_block;

typedef struct {
  int32_t abi, bytes;
  int32_t blocks, heads, threads, saves;  // heads 12: image; 3: half the LL band. saves: keep what backward needs
  int64_t n, noise_stride;                // noise_stride 0: one map for all samples, 1: a map each
  facelatent_mobile_block block[FACELATENT_MOBILE_BLOCKS];
  const float *head_weight, *head_bias;  // [heads, outputs], [heads]
  const float *x;                        // [n, inputs of block 0, 4, 4]
  const float *styles;                   // [n, sum over blocks of (inputs, inputs / 4, outputs), outputs of the last]
  float *image;                          // [n, 3, s, s]: s = twice the last side (heads 12) or that side (heads 3)
  const float *grad_image;               // backward: as image, ...
  float *grad_x, *grad_styles;           // ... as x and styles
  float *workspace;                      // 64-byte aligned, facelatent_mobile_workspace() bytes; what forward saved
} facelatent_mobile;

FACELATENT_API int64_t facelatent_mobile_workspace(const facelatent_mobile *);
FACELATENT_API int facelatent_mobile_forward_cpu(const facelatent_mobile *);
FACELATENT_API int facelatent_mobile_backward_cpu(const facelatent_mobile *);
