// MobileStyleGAN on the CPU. A block (inverse wavelet, two depthwise + pointwise layers, and after the last one the image
// head) is one pass: each thread takes bands of rows and keeps the few rows between two layers in rings that fit its
// second-level cache, recomputing two rows at a band's edges. A depthwise result lives only as the small left operand
// of the matrix product, whose epilogue adds noise and bias and applies the activation in registers. Backward runs the
// same way from the image to the input.
//
// Pixels are rows of channels padded to 16. The channels of a block's result are ordered by wavelet band, [LL | LH | HL
// | HH], so that the wavelet transforms work on whole vectors; padding has zero weights, so it only has to be finite.
#include <omp.h>

#include <algorithm>
#include <cstring>

#include "mobile.h"

namespace {

// Vectors of the widest kind, and as many pixels in one product as its registers hold with two vectors of columns.
#if defined(__AVX512F__)
constexpr int kWidth = 16, kRows = 12;
#elif defined(__AVX__)
constexpr int kWidth = 8, kRows = 6;
#elif defined(__aarch64__)
constexpr int kWidth = 4, kRows = 12;
#else
constexpr int kWidth = 4, kRows = 6;
#endif
constexpr int kPad = 16;
constexpr int kTile = 96;  // pixels of a left operand; a multiple of kRows
constexpr int kHeads = 16;
constexpr int kBandsPerThread = 2;
constexpr int64_t kMostChannels = 4096;
constexpr float kSlope = 0.2f;

typedef float vec __attribute__((vector_size(4 * kWidth), may_alias));

inline vec load(const float *p) { return *reinterpret_cast<const vec *>(p); }
inline void store(float *p, vec v) { *reinterpret_cast<vec *>(p) = v; }
inline vec leaky(vec v) { return v > 0 ? v : v * kSlope; }
// The gradient of leaky(), seen from its result.
inline vec masked(vec gradient, vec y) { return y > 0 ? gradient : gradient * kSlope; }

inline int64_t padded(int64_t channels) { return (channels + kPad - 1) / kPad * kPad; }

// Hands out pieces of the workspace; without one it only counts.
struct Arena {
  float *base;
  int64_t used = 0;

  float *take(int64_t floats) {
    float *piece = base ? base + used : nullptr;
    used += padded(floats);
    return piece;
  }
};

// ---- Matrix product of a few pixels [count, k] by a packed matrix [k, n] ----

// Panels of 2 kWidth columns (the last may have kWidth), each [k, columns].
struct Matrix {
  int64_t k, n;
  float *data;
};

template <class Get>
inline void pack_panel(const Matrix &matrix, int64_t first, Get get) {
  const int64_t columns = std::min<int64_t>(2 * kWidth, matrix.n - first);
  float *out = matrix.data + first * matrix.k;
  for (int64_t k = 0; k < matrix.k; ++k)
    for (int64_t j = 0; j < columns; ++j) *out++ = get(k, first + j);
}

// By the threads of a team.
template <class Get>
void pack(const Matrix &matrix, Get get) {
#pragma omp for schedule(static) nowait
  for (int64_t first = 0; first < matrix.n; first += 2 * kWidth) pack_panel(matrix, first, get);
}

template <class Get>
void pack_alone(const Matrix &matrix, Get get) {
  for (int64_t first = 0; first < matrix.n; first += 2 * kWidth) pack_panel(matrix, first, get);
}

template <int R, int V, class Epilogue>
inline void multiply(const float *a, int64_t stride, int64_t k, const float *b, Epilogue epilogue) {
  vec sum[R][V];
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < V; ++j) sum[i][j] = vec{};
  for (int64_t step = 0; step < k; ++step, b += V * kWidth) {
    vec right[V];
    for (int j = 0; j < V; ++j) right[j] = load(b + j * kWidth);
    for (int i = 0; i < R; ++i)
      for (int j = 0; j < V; ++j) sum[i][j] += a[i * stride + step] * right[j];
  }
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < V; ++j) epilogue(i, j * kWidth, sum[i][j]);
}

// All of a panel's columns for ``count`` pixels, a multiple of kRows / 3.
template <int V, class Epilogue>
inline void multiply_panel(const float *a, int64_t stride, int64_t count, int64_t k, const float *b, Epilogue epilogue) {
  for (int64_t i = 0; i < count;) {
    auto shifted = [&](int64_t m, int64_t n, vec value) { epilogue(i + m, n, value); };
    const float *rows = a + i * stride;
    if (count - i >= kRows) {
      multiply<kRows, V>(rows, stride, k, b, shifted);
      i += kRows;
    } else if (count - i >= kRows / 3 * 2) {
      multiply<kRows / 3 * 2, V>(rows, stride, k, b, shifted);
      i += kRows / 3 * 2;
    } else {
      multiply<kRows / 3, V>(rows, stride, k, b, shifted);
      i += kRows / 3;
    }
  }
}

// epilogue(pixel, column, vector) receives a[count, k] @ matrix.
template <class Epilogue>
void multiply_all(const float *a, int64_t stride, int64_t count, const Matrix &matrix, Epilogue epilogue) {
  for (int64_t first = 0; first < matrix.n; first += 2 * kWidth) {
    auto shifted = [&](int64_t m, int64_t n, vec value) { epilogue(m, first + n, value); };
    const float *b = matrix.data + first * matrix.k;
    if (matrix.n - first >= 2 * kWidth)
      multiply_panel<2>(a, stride, count, matrix.k, b, shifted);
    else
      multiply_panel<1>(a, stride, count, matrix.k, b, shifted);
  }
}

// ---- The network's layout ----

struct Layer {
  int64_t inputs, outputs;          // padded
  const float *noise;               // of the first sample, may be null
  Matrix forward, backward;         // [inputs, outputs] and [outputs, inputs]
  float *bias, *style;              // [outputs], [inputs]
  float *taps, *flipped;            // [9, inputs]: times the style; mirrored, without the style
};

struct Block {
  int64_t side, quarter, outputs;   // outputs: of the second layer, in band order unless the block is the last one
  int64_t group, band, bands;       // rows that make a tile where rows are short; rows of a band; bands
  int64_t style;                    // where a sample's styles of this block start
  bool last;
  Layer one, two;
  float *up;                        // [4 quarter]: style of the wavelet transform, halved
  double *up_sums, *two_sums;       // [bands, 4 quarter], [bands, two.inputs]: parts of the styles' gradients

  int64_t pixels() const { return side * side; }
  int64_t outer_row() const { return (side + 2) * one.inputs; }  // floats, with a column of zeros at each end
  int64_t inner_row() const { return (side + 2) * two.inputs; }
  int64_t outer_rows() const { return (group + 4) / 2 * 2; }
  int64_t inner_rows() const { return group + 2; }
};

// Where channel c of ``channels`` lies in band order.
inline int64_t in_bands(int64_t c, int64_t channels) {
  const int64_t quarter = channels / 4, high = c - quarter;
  return c < quarter ? c : (1 + high % 3) * padded(quarter) + high / 3;
}

// A thread's own memory, small enough to stay in its cache.
struct Scratch {
  float *left, *right, *heads;  // [kTile, channels] twice, [kTile, kHeads]
  float *outer, *inner, *zeros; // rings of rows of the first and of the second layer's inputs; a row of zeros
};

// What one sample keeps for backward; without saving, all samples share one and y1 is null.
struct Kept {
  float *x;                                                        // [16, channels in band order]
  float *y1[FACELATENT_MOBILE_BLOCKS], *y2[FACELATENT_MOBILE_BLOCKS];
};

struct Network {
  const facelatent_mobile &p;
  Arena arena;
  Block blocks[FACELATENT_MOBILE_BLOCKS];
  Matrix head, head_backward;
  float *head_bias, *head_style, *first_scratch, *first_kept, *spare[2];
  double *head_sums;
  int64_t styles = 0, scratch_floats, kept_floats;

  explicit Network(const facelatent_mobile &given) : p(given), arena{given.workspace} {
    int64_t largest = 0;
    for (int b = 0; b < p.blocks; ++b) {
      describe(b);
      if (b == 0) largest = 16 * 4 * blocks[b].quarter;
      if (!blocks[b].last) largest = std::max(largest, blocks[b].pixels() * blocks[b].outputs);
    }
    const Block &last = blocks[p.blocks - 1];
    const int64_t channels = p.block[p.blocks - 1].outputs;
    head = {channels, kHeads, arena.take(channels * kHeads)};
    head_backward = {p.heads, last.outputs, arena.take(p.heads * last.outputs)};
    head_bias = arena.take(kHeads);
    head_style = arena.take(last.outputs);
    head_sums = doubles(last.bands * last.outputs);
    styles += channels;
    for (float *&piece : spare) piece = arena.take(largest);
    first_scratch = arena.base ? arena.base + arena.used : nullptr;
    Arena one{nullptr};
    scratch(one);
    scratch_floats = one.used;
    arena.take(p.threads * scratch_floats);
    first_kept = arena.base ? arena.base + arena.used : nullptr;
    Arena two{nullptr};
    kept(two);
    kept_floats = two.used;
    arena.take((p.saves ? p.n : 1) * kept_floats);
  }

  double *doubles(int64_t count) { return reinterpret_cast<double *>(arena.take(2 * count)); }

  void describe(int b) {
    const facelatent_mobile_block &given = p.block[b];
    Block &block = blocks[b];
    block.side = int64_t{8} << b;
    block.last = b + 1 == p.blocks;
    block.quarter = padded(given.inputs / 4);
    block.outputs = block.last ? padded(given.outputs) : 4 * padded(given.outputs / 4);
    block.style = styles;
    styles += given.inputs + given.inputs / 4 + given.outputs;
    block.group = std::max<int64_t>(1, 64 / block.side);
    // Several bands a thread where rows are many, so that a thread that is held up does not hold up the others.
    const int64_t parts = p.threads * (block.side >= 128 && p.threads > 1 ? kBandsPerThread : 1);
    block.band = std::max<int64_t>(2, (block.side + parts - 1) / parts / 2 * 2);
    block.bands = (block.side + block.band - 1) / block.band;
    describe(block.one, given.layers[0], given.inputs / 4, block.quarter, padded(given.outputs));
    describe(block.two, given.layers[1], given.outputs, padded(given.outputs), block.outputs);
    block.up = arena.take(4 * block.quarter);
    block.up_sums = doubles(block.bands * 4 * block.quarter);
    block.two_sums = doubles(block.bands * block.two.inputs);
  }

  void describe(Layer &layer, const facelatent_mobile_layer &given, int64_t real, int64_t inputs, int64_t outputs) {
    layer.inputs = inputs;
    layer.outputs = outputs;
    layer.noise = given.noise;
    layer.forward = {real, outputs, arena.take(real * outputs)};
    layer.backward = {outputs, inputs, p.saves ? arena.take(outputs * inputs) : nullptr};
    layer.bias = arena.take(outputs);
    layer.style = arena.take(inputs);
    layer.taps = arena.take(9 * inputs);
    layer.flipped = arena.take(9 * inputs);
  }

  Scratch scratch(Arena &from) const {
    int64_t widest = 0, outer = 0, inner = 0, row = 0;
    for (const Block *block = blocks; block < blocks + p.blocks; ++block) {
      widest = std::max({widest, block->quarter, block->two.inputs, block->outputs});
      outer = std::max(outer, block->outer_rows() * block->outer_row());
      inner = std::max(inner, block->inner_rows() * block->inner_row());
      row = std::max({row, block->outer_row(), block->inner_row()});
    }
    return {from.take(kTile * widest), from.take(kTile * widest), from.take(kTile * kHeads),
            from.take(outer),          from.take(inner),          from.take(row)};
  }

  Scratch scratch_of(int thread) const {
    Arena from{first_scratch + thread * scratch_floats};
    Scratch s = scratch(from);
    std::memset(s.zeros, 0, sizeof(float) * (first_scratch + (thread + 1) * scratch_floats - s.zeros));
    return s;
  }

  Kept kept(Arena &from) const {
    Kept k{from.take(16 * 4 * blocks[0].quarter), {}, {}};
    for (int b = 0; b < p.blocks; ++b) {
      const Block &block = blocks[b];
      k.y1[b] = p.saves ? from.take(block.side * block.inner_row()) : nullptr;
      k.y2[b] = p.saves ? from.take(block.pixels() * block.outputs) : block.last ? nullptr : spare[b % 2];
    }
    return k;
  }

  Kept kept_of(int64_t sample) const {
    Arena from{first_kept + (p.saves ? sample * kept_floats : 0)};
    return kept(from);
  }
};

// ---- Weights into the layout, by all threads of a team ----

void pack_layer(const Layer &layer, const facelatent_mobile_layer &given, int64_t inputs, int64_t outputs, bool bands,
                bool backward) {
  // Row of the weight for each column, or -1 for padding.
  static thread_local int64_t rows[4 * kMostChannels];
  std::fill_n(rows, layer.outputs, int64_t{-1});
  for (int64_t o = 0; o < outputs; ++o) rows[bands ? in_bands(o, outputs) : o] = o;
  const int64_t *row = rows;
  const float *weight = given.weight;
  if (backward) {
    pack(layer.backward, [=](int64_t k, int64_t n) {
      return row[k] < 0 || n >= inputs ? 0.0f : weight[row[k] * inputs + n];
    });
  } else {
    pack(layer.forward, [=](int64_t k, int64_t n) { return row[n] < 0 ? 0.0f : weight[row[n] * inputs + k]; });
#pragma omp for schedule(static) nowait
    for (int64_t n = 0; n < layer.outputs; ++n) layer.bias[n] = row[n] < 0 ? 0.0f : given.bias[row[n]];
  }
}

void pack_weights(const Network &net, bool backward) {
  for (int b = 0; b < net.p.blocks; ++b) {
    const facelatent_mobile_block &given = net.p.block[b];
    const Block &block = net.blocks[b];
    pack_layer(block.one, given.layers[0], given.inputs / 4, given.outputs, false, backward);
    pack_layer(block.two, given.layers[1], given.outputs, given.outputs, !block.last, backward);
  }
#pragma omp barrier
}

void modulate_layer(const Layer &layer, const facelatent_mobile_layer &given, const float *style, int64_t inputs) {
  std::memset(layer.style, 0, sizeof(float) * layer.inputs);
  std::memset(layer.taps, 0, sizeof(float) * 9 * layer.inputs);
  std::memset(layer.flipped, 0, sizeof(float) * 9 * layer.inputs);
  std::copy_n(style, inputs, layer.style);
  for (int64_t c = 0; c < inputs; ++c)
    for (int tap = 0; tap < 9; ++tap) {
      layer.taps[tap * layer.inputs + c] = given.depthwise[c * 9 + tap] * style[c];
      layer.flipped[(8 - tap) * layer.inputs + c] = given.depthwise[c * 9 + tap];
    }
}

// One sample's styles into the layout. The factor 1/2 of the wavelet transforms goes into them, and into the head.
void modulate(const Network &net, int64_t sample) {
  const float *styles = net.p.styles + sample * net.styles;
  for (int b = 0; b < net.p.blocks; ++b) {
    const facelatent_mobile_block &given = net.p.block[b];
    const Block &block = net.blocks[b];
    const float *style = styles + block.style;
    std::memset(block.up, 0, sizeof(float) * 4 * block.quarter);
    for (int64_t c = 0; c < given.inputs; ++c) block.up[in_bands(c, given.inputs)] = 0.5f * style[c];
    modulate_layer(block.one, given.layers[0], style + given.inputs, given.inputs / 4);
    modulate_layer(block.two, given.layers[1], style + given.inputs + given.inputs / 4, given.outputs);
  }
  const int64_t channels = net.head.k, heads = net.p.heads;
  const float *style = styles + net.styles - channels, *weight = net.p.head_weight;
  std::memset(net.head_style, 0, sizeof(float) * net.head_backward.n);
  std::copy_n(style, channels, net.head_style);
  for (int64_t k = 0; k < kHeads; ++k) net.head_bias[k] = k < heads ? 0.5f * net.p.head_bias[k] : 0.0f;
  pack_alone(net.head, [=](int64_t c, int64_t k) { return k < heads ? 0.5f * style[c] * weight[k * channels + c] : 0; });
  pack_alone(net.head_backward,
             [=](int64_t k, int64_t c) { return c < channels ? 0.5f * weight[k * channels + c] : 0.0f; });
}

// ---- Pieces of a block ----

struct Ring {
  float *base;
  int64_t rows, floats, channels;

  Ring(float *base, int64_t rows, int64_t floats, int64_t channels)
      : base(base), rows(rows), floats(floats), channels(channels) {
    for (int64_t y = 0; y < rows; ++y) clear_ends(row(y), floats, channels);
  }

  float *row(int64_t y) const { return base + y % rows * floats; }

  static void clear_ends(float *row, int64_t floats, int64_t channels) {
    std::memset(row, 0, sizeof(float) * channels);
    std::memset(row + floats - channels, 0, sizeof(float) * channels);
  }
};

// Calls act(first, count) for tiles of the pixels of rows [top, bottom).
template <class Act>
inline void for_tiles(int64_t side, int64_t top, int64_t bottom, Act act) {
  for (int64_t first = top * side; first < bottom * side; first += kTile)
    act(first, std::min<int64_t>(kTile, bottom * side - first));
}

// Calls act(y, x, length, offset) for the rows' pieces that make a tile. Lengths are multiples of 8, as sides are.
template <class Act>
inline void for_spans(int64_t side, int64_t first, int64_t count, Act act) {
  for (int64_t offset = 0; offset < count;) {
    const int64_t y = (first + offset) / side, x = (first + offset) % side;
    const int64_t length = std::min(count - offset, side - x);
    act(y, x, length, offset);
    offset += length;
  }
}

// Depthwise 3x3 of ``length`` pixels from x on: out [length, channels]. Rows start with a column of zeros.
void depthwise(const float *const rows[3], int64_t x, int64_t length, const float *taps, int64_t channels, float *out) {
  constexpr int kStep = kWidth == 16 ? 8 : 4;  // as many as the registers hold; lengths are multiples of 8
  for (int64_t i = 0; i < length; i += kStep)
    for (int64_t c = 0; c < channels; c += kWidth) {
      vec sum[kStep] = {};
      for (int dy = 0; dy < 3; ++dy) {
        const float *in = rows[dy] + (x + i) * channels + c;
        vec pixel[kStep + 2];
        for (int j = 0; j < kStep + 2; ++j) pixel[j] = load(in + j * channels);
        for (int dx = 0; dx < 3; ++dx) {
          const vec tap = load(taps + (3 * dy + dx) * channels + c);
          for (int j = 0; j < kStep; ++j) sum[j] += pixel[j + dx] * tap;
        }
      }
      for (int j = 0; j < kStep; ++j) store(out + (i + j) * channels + c, sum[j]);
    }
}

// Row y / 2 of coefficients to rows y and y + 1 of pixels, each after a column of zeros.
void wavelet_rows(const Block &block, const float *coefficients, float *above, float *below) {
  const int64_t channels = block.quarter;
  above += channels;
  below += channels;
  for (int64_t x = 0; x < block.side / 2; ++x)
    for (int64_t c = 0; c < channels; c += kWidth) {
      const float *in = coefficients + 4 * x * channels + c, *up = block.up + c;
      vec band[4];
      for (int k = 0; k < 4; ++k) band[k] = load(in + k * channels) * load(up + k * channels);
      const vec a = band[0] + band[1], b = band[0] - band[1], p = band[2] + band[3], m = band[2] - band[3];
      const int64_t left = 2 * x * channels + c, right = left + channels;
      store(above + left, a + p);
      store(above + right, a - p);
      store(below + left, b + m);
      store(below + right, b - m);
    }
}

inline void add(double *sums, vec value) {
  for (int i = 0; i < kWidth; ++i) sums[i] += value[i];
}

// Depthwise rows [top, bottom) of ``row``, pointwise, noise, bias, activation; place(y, x, offset in the tile) says
// where a pixel goes, done(first, count) is told of each tile.
template <class Row, class Place, class Done>
void styled_rows(const Layer &layer, const float *noise, int64_t side, int64_t top, int64_t bottom, const Scratch &s,
                 Row row, Place place, Done done) {
  for_tiles(side, top, bottom, [&](int64_t first, int64_t count) {
    float *to[kTile], shift[kTile];
    for_spans(side, first, count, [&](int64_t y, int64_t x, int64_t length, int64_t offset) {
      const float *rows[3] = {row(y - 1), row(y), row(y + 1)};
      depthwise(rows, x, length, layer.taps, layer.inputs, s.left + offset * layer.inputs);
      for (int64_t i = 0; i < length; ++i) {
        to[offset + i] = place(y, x + i, offset + i);
        shift[offset + i] = noise ? noise[y * side + x + i] : 0.0f;
      }
    });
    multiply_all(s.left, layer.inputs, count, layer.forward, [&](int64_t m, int64_t n, vec value) {
      store(to[m] + n, leaky(value + (load(layer.bias + n) + shift[m])));
    });
    done(first, count);
  });
}

// Pixels of the last block's result to the image, or to half its LL band.
void draw(const Network &net, int64_t sample, const Scratch &s, const float *y2, int64_t first, int64_t count) {
  const Block &block = net.blocks[net.p.blocks - 1];
  const int64_t side = block.side;
  multiply_all(y2, block.outputs, count, net.head, [&](int64_t m, int64_t n, vec value) {
    store(s.heads + m * kHeads + n, value + load(net.head_bias + n));
  });
  const bool low = net.p.heads == 3;
  const int64_t width = low ? side : 2 * side, plane = width * width;
  float *image = net.p.image + sample * 3 * plane;
  for_spans(side, first, count, [&](int64_t y, int64_t x, int64_t length, int64_t offset) {
    for (int64_t k = 0; k < 3; ++k) {
      const float *in = s.heads + offset * kHeads;
      if (low) {
        float *out = image + k * plane + y * width + x;
        for (int64_t i = 0; i < length; ++i, in += kHeads) out[i] = in[k];
        continue;
      }
      float *above = image + k * plane + 2 * y * width + 2 * x, *below = above + width;
      for (int64_t i = 0; i < length; ++i, in += kHeads) {
        const float *high = in + 3 + 3 * k;
        const float a = in[k] + high[0], b = in[k] - high[0], p = high[1] + high[2], m = high[1] - high[2];
        above[2 * i] = a + p;
        above[2 * i + 1] = a - p;
        below[2 * i] = b + m;
        below[2 * i + 1] = b - m;
      }
    }
  });
}

// ---- Forward ----

inline const float *noise_of(const Network &net, const Block &block, const Layer &layer, int64_t sample) {
  return layer.noise ? layer.noise + sample * net.p.noise_stride * block.pixels() : nullptr;
}

void forward_band(const Network &net, const Kept &kept, int b, int64_t sample, int64_t index, const Scratch &s) {
  const Block &block = net.blocks[b];
  const int64_t side = block.side, top = index * block.band, bottom = std::min(top + block.band, side);
  const float *coefficients = b ? kept.y2[b - 1] : kept.x;
  float *y1 = kept.y1[b], *y2 = kept.y2[b];
  const Ring outer(s.outer, block.outer_rows(), block.outer_row(), block.quarter);
  const Ring inner(s.inner, block.inner_rows(), block.inner_row(), block.two.inputs);
  // Rows that backward needs are written to where they are kept; a neighbour's rows stay private.
  auto inner_row = [&](int64_t y) { return y1 && y >= top && y < bottom ? y1 + y * block.inner_row() : inner.row(y); };
  auto within = [&](int64_t y) { return y >= 0 && y < side; };
  int64_t next_outer = std::max<int64_t>(top - 2, 0), next_inner = std::max<int64_t>(top - 1, 0);
  for (int64_t y = top; y < bottom; y += block.group) {
    const int64_t end = std::min(y + block.group, bottom), needed = std::min(end + 1, side);
    while (next_inner < needed) {
      const int64_t stop = std::min(next_inner + block.group, needed);
      for (; next_outer < std::min(stop + 1, side); next_outer += 2)
        wavelet_rows(block, coefficients + next_outer / 2 * (side / 2) * 4 * block.quarter, outer.row(next_outer),
                     outer.row(next_outer + 1));
      for (int64_t row = next_inner; y1 && row < stop; ++row)
        Ring::clear_ends(inner_row(row), block.inner_row(), block.two.inputs);
      styled_rows(
          block.one, noise_of(net, block, block.one, sample), side, next_inner, stop, s,
          [&](int64_t row) { return within(row) ? outer.row(row) : s.zeros; },
          [&](int64_t row, int64_t x, int64_t) { return inner_row(row) + (x + 1) * block.two.inputs; },
          [](int64_t, int64_t) {});
      next_inner = stop;
    }
    styled_rows(
        block.two, noise_of(net, block, block.two, sample), side, y, end, s,
        [&](int64_t row) { return within(row) ? inner_row(row) : s.zeros; },
        [&](int64_t row, int64_t x, int64_t offset) {
          return y2 ? y2 + (row * side + x) * block.outputs : s.right + offset * block.outputs;
        },
        [&](int64_t first, int64_t count) {
          if (block.last) draw(net, sample, s, y2 ? y2 + first * block.outputs : s.right, first, count);
        });
  }
}

void forward(const Network &net) {
#pragma omp parallel num_threads(net.p.threads)
  {
    const Scratch s = net.scratch_of(omp_get_thread_num());
    pack_weights(net, false);
    for (int64_t sample = 0; sample < net.p.n; ++sample) {
      const Kept kept = net.kept_of(sample);
#pragma omp single
      {
        modulate(net, sample);
        const int64_t inputs = net.p.block[0].inputs, channels = 4 * net.blocks[0].quarter;
        std::memset(kept.x, 0, sizeof(float) * 16 * channels);
        for (int64_t c = 0; c < inputs; ++c)
          for (int64_t i = 0; i < 16; ++i)
            kept.x[i * channels + in_bands(c, inputs)] = net.p.x[(sample * inputs + c) * 16 + i];
      }
      for (int b = 0; b < net.p.blocks; ++b) {
#pragma omp for schedule(dynamic, 1)
        for (int64_t index = 0; index < net.blocks[b].bands; ++index) forward_band(net, kept, b, sample, index, s);
      }
    }
  }
}

// ---- Backward ----

// V vectors of channels, so that memory is read in long runs.
template <int V>
void activation_part(float *gradient, const float *results, int64_t count, int64_t channels, const float *style,
                     double *sums) {
  vec sum[V] = {}, factor[V];
  for (int j = 0; j < V; ++j) factor[j] = load(style + j * kWidth);
  for (int64_t i = 0; i < count; ++i, gradient += channels, results += channels)
    for (int j = 0; j < V; ++j) {
      const vec y = load(results + j * kWidth), value = load(gradient + j * kWidth);
      sum[j] += value * y;
      store(gradient + j * kWidth, masked(value * factor[j], y));
    }
  for (int j = 0; sums && j < V; ++j) add(sums + j * kWidth, sum[j]);
}

// ``gradient`` [count, channels], of results times style, becomes that of the results before their activation; the
// gradient of the style is added to ``sums`` unless that is null.
void activation_backward(float *gradient, const float *results, int64_t count, int64_t channels, const float *style,
                         double *sums) {
  int64_t c = 0;
  for (; c + 4 * kWidth <= channels; c += 4 * kWidth)
    activation_part<4>(gradient + c, results + c, count, channels, style + c, sums ? sums + c : nullptr);
  for (; c < channels; c += kWidth)
    activation_part<1>(gradient + c, results + c, count, channels, style + c, sums ? sums + c : nullptr);
}

// Gradient of the image to that of the last layer before its activation: s.left [count, outputs].
void undraw(const Network &net, int64_t sample, const Scratch &s, const float *y2, double *sums, int64_t first,
            int64_t count) {
  const Block &block = net.blocks[net.p.blocks - 1];
  const bool low = net.p.heads == 3;
  const int64_t side = block.side, channels = block.outputs, width = low ? side : 2 * side, plane = width * width;
  const float *image = net.p.grad_image + sample * 3 * plane;
  for_spans(side, first, count, [&](int64_t y, int64_t x, int64_t length, int64_t offset) {
    for (int64_t k = 0; k < 3; ++k) {
      float *out = s.heads + offset * kHeads;
      if (low) {
        const float *in = image + k * plane + y * width + x;
        for (int64_t i = 0; i < length; ++i, out += kHeads) out[k] = in[i];
        continue;
      }
      const float *above = image + k * plane + 2 * y * width + 2 * x, *below = above + width;
      for (int64_t i = 0; i < length; ++i, out += kHeads) {
        const float p = above[2 * i] + above[2 * i + 1], m = above[2 * i] - above[2 * i + 1];
        const float q = below[2 * i] + below[2 * i + 1], r = below[2 * i] - below[2 * i + 1];
        out[k] = p + q;
        out[3 + 3 * k] = p - q;
        out[4 + 3 * k] = m + r;
        out[5 + 3 * k] = m - r;
      }
    }
  });
  multiply_all(s.heads, kHeads, count, net.head_backward,
               [&](int64_t m, int64_t n, vec value) { store(s.left + m * channels + n, value); });
  activation_backward(s.left, y2 + first * channels, count, channels, net.head_style, sums);
}

// Rows [top, bottom) of layer two's output gradient to rows of its depthwise result's gradient.
void backward_two(const Network &net, const Kept &kept, int b, int64_t sample, const float *gradient, int64_t top,
                  int64_t bottom, bool owned, double *head_sums, const Ring &inner, const Scratch &s) {
  const Block &block = net.blocks[b];
  for_tiles(block.side, top, bottom, [&](int64_t first, int64_t count) {
    const float *left = gradient + first * block.outputs;
    if (block.last) {
      undraw(net, sample, s, kept.y2[b], owned ? head_sums : nullptr, first, count);
      left = s.left;
    }
    float *to[kTile];
    for_spans(block.side, first, count, [&](int64_t y, int64_t x, int64_t length, int64_t offset) {
      for (int64_t i = 0; i < length; ++i) to[offset + i] = inner.row(y) + (x + i + 1) * block.two.inputs;
    });
    multiply_all(left, block.outputs, count, block.two.backward,
                 [&](int64_t m, int64_t n, vec value) { store(to[m] + n, value); });
  });
}

// The same for layer one: through layer two's depthwise convolution, its style and layer one's activation.
void backward_one(const Block &block, const float *y1, int64_t top, int64_t bottom, double *sums, const Ring &inner,
                  const Ring &outer, const Scratch &s) {
  const int64_t side = block.side, channels = block.two.inputs;
  for_tiles(side, top, bottom, [&](int64_t first, int64_t count) {
    float *to[kTile];
    for_spans(side, first, count, [&](int64_t y, int64_t x, int64_t length, int64_t offset) {
      const float *rows[3] = {y > 0 ? inner.row(y - 1) : s.zeros, inner.row(y), y + 1 < side ? inner.row(y + 1) : s.zeros};
      float *left = s.left + offset * channels;
      depthwise(rows, x, length, block.two.flipped, channels, left);
      const float *results = y1 + y * block.inner_row() + (x + 1) * channels;
      activation_backward(left, results, length, channels, block.two.style, sums);
      for (int64_t i = 0; i < length; ++i) to[offset + i] = outer.row(y) + (x + i + 1) * block.quarter;
    });
    multiply_all(s.left, channels, count, block.one.backward,
                 [&](int64_t m, int64_t n, vec value) { store(to[m] + n, value); });
  });
}

// Through layer one's depthwise convolution and the wavelet transform, rows y and y + 1 to row y / 2: the gradient of
// the previous block's result before its activation (``activated``), or of the network's input.
void backward_wavelet(const Block &block, const float *coefficients, int64_t y, bool activated, double *sums,
                      const Ring &outer, const Scratch &s, float *gradient) {
  constexpr int64_t kChunk = 16;
  const int64_t side = block.side, channels = block.quarter;
  const float *rows[4] = {y > 0 ? outer.row(y - 1) : s.zeros, outer.row(y), outer.row(y + 1),
                          y + 2 < side ? outer.row(y + 2) : s.zeros};
  for (int64_t x = 0; x < side; x += kChunk) {
    const int64_t length = std::min(kChunk, side - x);
    float *above = s.right, *below = s.right + length * channels;
    depthwise(rows, x, length, block.one.flipped, channels, above);
    depthwise(rows + 1, x, length, block.one.flipped, channels, below);
    for (int64_t c = 0; c < channels; c += kWidth) {
      vec sum[4] = {}, factor[4];
      for (int k = 0; k < 4; ++k) factor[k] = load(block.up + k * channels + c) * load(block.one.style + c);
      for (int64_t i = 0; i < length; i += 2) {
        const float *one = above + i * channels + c, *two = below + i * channels + c;
        const vec p = load(one) + load(one + channels), m = load(one) - load(one + channels);
        const vec q = load(two) + load(two + channels), r = load(two) - load(two + channels);
        const vec band[4] = {p + q, p - q, m + r, m - r};
        const int64_t at = 4 * (x + i) / 2 * channels + c;
        for (int k = 0; k < 4; ++k) {
          const vec value = load(coefficients + at + k * channels), result = band[k] * factor[k];
          sum[k] += band[k] * value;
          store(gradient + at + k * channels, activated ? masked(result, value) : result);
        }
      }
      for (int k = 0; k < 4; ++k) add(sums + k * channels + c, sum[k]);
    }
  }
}

void backward_band(const Network &net, const Kept &kept, int b, int64_t sample, int64_t index, const float *gradient,
                   float *result, const Scratch &s) {
  const Block &block = net.blocks[b];
  const int64_t side = block.side, top = index * block.band, bottom = std::min(top + block.band, side);
  const Ring outer(s.outer, block.outer_rows(), block.outer_row(), block.quarter);
  const Ring inner(s.inner, block.inner_rows(), block.inner_row(), block.two.inputs);
  double *up_sums = block.up_sums + index * 4 * block.quarter, *two_sums = block.two_sums + index * block.two.inputs;
  double *head_sums = block.last ? net.head_sums + index * block.outputs : nullptr;
  std::fill_n(up_sums, 4 * block.quarter, 0.0);
  std::fill_n(two_sums, block.two.inputs, 0.0);
  if (head_sums) std::fill_n(head_sums, block.outputs, 0.0);
  // Only the band's own rows count in the sums, so steps end at its edges.
  auto owned = [&](int64_t y) { return y >= top && y < bottom; };
  auto step = [&](int64_t y, int64_t limit) {
    return std::min({y + block.group, limit, y < top ? top : y < bottom ? bottom : limit});
  };
  const int64_t group = std::max<int64_t>(2, block.group);
  const float *coefficients = b ? kept.y2[b - 1] : kept.x;
  int64_t next_inner = std::max<int64_t>(top - 2, 0), next_outer = std::max<int64_t>(top - 1, 0);
  for (int64_t y = top; y < bottom; y += group) {
    const int64_t end = std::min(y + group, bottom), needed = std::min(end + 1, side);
    while (next_outer < needed) {
      const int64_t stop = step(next_outer, needed), inner_needed = std::min(stop + 1, side);
      while (next_inner < inner_needed) {
        const int64_t inner_stop = step(next_inner, inner_needed);
        backward_two(net, kept, b, sample, gradient, next_inner, inner_stop, owned(next_inner), head_sums, inner, s);
        next_inner = inner_stop;
      }
      backward_one(block, kept.y1[b], next_outer, stop, owned(next_outer) ? two_sums : nullptr, inner, outer, s);
      next_outer = stop;
    }
    for (int64_t row = y; row < end; row += 2) {
      const int64_t at = row / 2 * (side / 2) * 4 * block.quarter;
      backward_wavelet(block, coefficients + at, row, b > 0, up_sums, outer, s, result + at);
    }
  }
}

// Sums over bands to the gradients of one sample's styles. With T the sum of (gradient of a coefficient before the
// styles) x (coefficient), the two styles of a block that meet there get T times each other.
void finish_styles(const Network &net, int64_t sample) {
  float *styles = net.p.grad_styles + sample * net.styles;
  auto total = [](const double *sums, int64_t bands, int64_t stride, int64_t c) {
    double sum = 0;
    for (int64_t band = 0; band < bands; ++band) sum += sums[band * stride + c];
    return sum;
  };
  for (int b = 0; b < net.p.blocks; ++b) {
    const Block &block = net.blocks[b];
    const int64_t inputs = net.p.block[b].inputs, quarter = inputs / 4, outputs = net.p.block[b].outputs;
    float *up = styles + block.style, *one = up + inputs, *two = one + quarter;
    std::fill_n(one, quarter, 0.0f);
    for (int64_t c = 0; c < inputs; ++c) {
      const int64_t at = in_bands(c, inputs), channel = at % block.quarter;
      const double sum = total(block.up_sums, block.bands, 4 * block.quarter, at);
      up[c] = static_cast<float>(0.5 * sum * block.one.style[channel]);
      one[channel] += static_cast<float>(sum * block.up[at]);
    }
    for (int64_t c = 0; c < outputs; ++c)
      two[c] = static_cast<float>(total(block.two_sums, block.bands, block.two.inputs, c));
  }
  const Block &last = net.blocks[net.p.blocks - 1];
  float *head = styles + net.styles - net.head.k;
  for (int64_t c = 0; c < net.head.k; ++c)
    head[c] = static_cast<float>(total(net.head_sums, last.bands, last.outputs, c));
}

void backward(const Network &net) {
#pragma omp parallel num_threads(net.p.threads)
  {
    const Scratch s = net.scratch_of(omp_get_thread_num());
    pack_weights(net, true);
    for (int64_t sample = 0; sample < net.p.n; ++sample) {
      const Kept kept = net.kept_of(sample);
#pragma omp single
      modulate(net, sample);
      for (int b = net.p.blocks - 1; b >= 0; --b) {
#pragma omp for schedule(dynamic, 1)
        for (int64_t index = 0; index < net.blocks[b].bands; ++index)
          backward_band(net, kept, b, sample, index, net.spare[b % 2], net.spare[(b + 1) % 2], s);
      }
#pragma omp single
      {
        finish_styles(net, sample);
        const int64_t inputs = net.p.block[0].inputs, channels = 4 * net.blocks[0].quarter;
        for (int64_t c = 0; c < inputs; ++c)
          for (int64_t i = 0; i < 16; ++i)
            net.p.grad_x[(sample * inputs + c) * 16 + i] = net.spare[1][i * channels + in_bands(c, inputs)];
      }
    }
  }
}

int check(const facelatent_mobile *p) {
  if (!facelatent_abi_matches(p)) return FACELATENT_BAD_ABI;
  const bool fits = p->blocks >= 1 && p->blocks <= FACELATENT_MOBILE_BLOCKS && (p->heads == 3 || p->heads == 12) &&
                    p->threads >= 1 && p->n >= 1;
  if (!fits) return FACELATENT_BAD_SIZE;
  for (int b = 0; b < p->blocks; ++b) {
    const facelatent_mobile_block &block = p->block[b];
    const bool chained = b == 0 || block.inputs == p->block[b - 1].outputs;
    if (block.inputs < 4 || block.inputs % 4 || block.outputs < 1 || block.outputs > kMostChannels || !chained)
      return FACELATENT_BAD_SIZE;
  }
  return FACELATENT_OK;
}

}  // namespace

FACELATENT_API int64_t facelatent_mobile_workspace(const facelatent_mobile *p) {
  if (check(p) != FACELATENT_OK) return -1;
  facelatent_mobile counting = *p;
  counting.workspace = nullptr;
  return static_cast<int64_t>(sizeof(float)) * Network(counting).arena.used;
}

FACELATENT_API int facelatent_mobile_forward_cpu(const facelatent_mobile *p) {
  const int status = check(p);
  if (status == FACELATENT_OK) forward(Network(*p));
  return status;
}

FACELATENT_API int facelatent_mobile_backward_cpu(const facelatent_mobile *p) {
  const int status = check(p);
  if (status == FACELATENT_OK && !p->saves) return FACELATENT_BAD_SIZE;
  if (status == FACELATENT_OK) backward(Network(*p));
  return status;
}
