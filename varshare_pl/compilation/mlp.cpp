// A grouped multilayer perceptron on small matrices: forward, and backward to the gradients of its weights.
//
// Rows come in groups, (G, R, in), and a layer's weights are those of all groups or each group's own. Rows are taken
// through all layers in chunks that stay in the cache. What a value means is said in mlp.py; what the numbers
// are, the plain functions of networks/ say, to which the tests hold this.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

namespace {

// Vectors by the compiler's own extension: as wide as the processor's, and as many sums at a time as it has registers.
#if defined(__AVX512F__)
constexpr int WIDTH = 16, TILE_ROWS = 6, TILE_VECTORS = 4;
#elif defined(__AVX__)
constexpr int WIDTH = 8, TILE_ROWS = 6, TILE_VECTORS = 2;
#else
constexpr int WIDTH = 4, TILE_ROWS = 6, TILE_VECTORS = 4;
#endif
typedef float Vector __attribute__((vector_size(4 * WIDTH)));
typedef float Unaligned __attribute__((vector_size(4 * WIDTH), aligned(4)));

constexpr int64_t CHUNK = 64;  // rows taken through all layers at a time
constexpr int64_t PAD = 16;    // floats, of which a padded row has a multiple

int64_t padded(int64_t size) { return (size + PAD - 1) / PAD * PAD; }

// A matrix that is read element by element: element (m, k) is at data[m * row + k * column].
struct Elements {
  const float* data;
  int64_t row, column;
};

// A tile of `product`: its sums stay in registers.
template <int ROWS, int VECTORS>
inline __attribute__((always_inline)) void tile(Elements a, const float* b, int64_t b_row, float* c, int64_t c_row,
                                                int64_t depth, const float* start, bool add) {
  Vector sums[ROWS][VECTORS];
  for (int m = 0; m < ROWS; m++)
    for (int j = 0; j < VECTORS; j++) {
      const float* from = add ? c + m * c_row : start;
      sums[m][j] = from ? (Vector) * (const Unaligned*)(from + j * WIDTH) : Vector{};
    }
  for (int64_t k = 0; k < depth; k++) {
    Vector row[VECTORS];
    for (int j = 0; j < VECTORS; j++) row[j] = *(const Unaligned*)(b + k * b_row + j * WIDTH);
    for (int m = 0; m < ROWS; m++) {
      const float factor = a.data[m * a.row + k * a.column];
      for (int j = 0; j < VECTORS; j++) sums[m][j] += factor * row[j];
    }
  }
  for (int m = 0; m < ROWS; m++)
    for (int j = 0; j < VECTORS; j++) *(Unaligned*)(c + m * c_row + j * WIDTH) = sums[m][j];
}

template <int VECTORS>
void columns(Elements a, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t rows, int64_t depth,
             const float* start, bool add) {
  int64_t m = 0;
  for (; m + TILE_ROWS <= rows; m += TILE_ROWS)
    tile<TILE_ROWS, VECTORS>({a.data + m * a.row, a.row, a.column}, b, b_row, c + m * c_row, c_row, depth, start, add);
  const Elements rest{a.data + m * a.row, a.row, a.column};
  float* to = c + m * c_row;
  switch (rows - m) {
    case 5: return tile<5, VECTORS>(rest, b, b_row, to, c_row, depth, start, add);
    case 4: return tile<4, VECTORS>(rest, b, b_row, to, c_row, depth, start, add);
    case 3: return tile<3, VECTORS>(rest, b, b_row, to, c_row, depth, start, add);
    case 2: return tile<2, VECTORS>(rest, b, b_row, to, c_row, depth, start, add);
    case 1: return tile<1, VECTORS>(rest, b, b_row, to, c_row, depth, start, add);
  }
}

// C (rows, width) = A (rows, depth) B (depth, width), plus `start` (width) if it is given, plus C itself if `add`.
// The width is a multiple of PAD.
void product(Elements a, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t rows, int64_t width,
             int64_t depth, const float* start = nullptr, bool add = false) {
  for (int64_t n = 0; n < width;) {
    const float* from = start ? start + n : nullptr;
    const int64_t vectors = std::min<int64_t>((width - n) / WIDTH, TILE_VECTORS);
    switch (vectors) {
      case 4: columns<TILE_VECTORS>(a, b + n, b_row, c + n, c_row, rows, depth, from, add); break;
      case 3: columns<std::min(3, TILE_VECTORS)>(a, b + n, b_row, c + n, c_row, rows, depth, from, add); break;
      case 2: columns<2>(a, b + n, b_row, c + n, c_row, rows, depth, from, add); break;
      case 1: columns<1>(a, b + n, b_row, c + n, c_row, rows, depth, from, add); break;
    }
    n += vectors * WIDTH;
  }
}

// Rational minimax approximation of tanh on [-7.9, 7.9], as in Eigen and XLA: within a few units of the last digit.
inline float tanh_of(float x) {
  x = x > 7.90531110763549805f ? 7.90531110763549805f : x;
  x = x < -7.90531110763549805f ? -7.90531110763549805f : x;
  const float q = x * x;
  float p = -2.76076847742355e-16f;
  p = p * q + 2.00018790482477e-13f;
  p = p * q - 8.60467152213735e-11f;
  p = p * q + 5.12229709037114e-08f;
  p = p * q + 1.48572235717979e-05f;
  p = p * q + 6.37261928875436e-04f;
  p = p * q + 4.89352455891786e-03f;
  float d = 1.19825839466702e-06f;
  d = d * q + 1.18534705686654e-04f;
  d = d * q + 2.26843463243900e-03f;
  d = d * q + 4.89352518554385e-03f;
  return x * p / d;
}

enum Activation { TANH, RELU };

void activate(float* values, int64_t count, int64_t activation) {
  if (activation == TANH)
    for (int64_t i = 0; i < count; i++) values[i] = tanh_of(values[i]);
  else
    for (int64_t i = 0; i < count; i++) values[i] = values[i] < 0.0f ? 0.0f : values[i];
}

// Gradients of an activation's outputs to those of its inputs, in place.
void deactivate(float* gradients, const float* outputs, int64_t count, int64_t activation) {
  if (activation == TANH)
    for (int64_t i = 0; i < count; i++) gradients[i] *= 1.0f - outputs[i] * outputs[i];
  else
    for (int64_t i = 0; i < count; i++) gradients[i] = outputs[i] > 0.0f ? gradients[i] : 0.0f;
}

struct Layer {
  int64_t in, out, own_weight, own_bias, local;
  const float *weight, *bias, *variance, *zeta;
  int64_t width;                                  // of a padded row of outputs
  float *outputs, *deviation;                     // (G, R, width) kept for the backward: activations, sqrt(x^2 s^2)
  float *d_weight, *d_bias, *d_variance;          // of the whole call
  std::vector<float> by_input, bias_row, variance_by_input;  // of the group: W^T (in, width) and what goes with it
  std::vector<float> by_output, variance_by_output;          // of the group: W (out, padded in)
  std::vector<float> sum_weight, sum_bias, sum_variance;     // gradients summed over the group's rows

  const float* of_group(const float* tensor, int64_t size, int64_t own, int64_t g) const {
    return tensor + (own ? g * size : 0);
  }
};

struct Network {
  int64_t groups, rows, activation;
  std::vector<Layer> layers;

  // See mlp.py for the layout.
  Network(const int64_t* layout, const float* const* tensors, float* tape, float* gradients) {
    groups = layout[0], rows = layout[1], activation = layout[2];
    layers.resize(layout[3]);
    const int64_t* of_layer = layout + 6;
    for (auto& l : layers) {
      l.in = of_layer[0], l.out = of_layer[1], l.own_weight = of_layer[2], l.own_bias = of_layer[3];
      l.local = of_layer[4], l.width = padded(l.out);
      of_layer += 5;
      l.weight = *tensors++, l.bias = *tensors++;
      l.variance = l.local ? *tensors++ : nullptr, l.zeta = l.local ? *tensors++ : nullptr;
      l.outputs = tape;
      if (&l != &layers.back()) tape += groups * rows * l.width;
      l.deviation = tape;
      if (l.local) tape += groups * rows * l.width;
      if (!gradients) continue;
      const int64_t size = l.in * l.out;
      l.d_weight = gradients, gradients += size * (l.own_weight ? groups : 1);
      l.d_bias = gradients, gradients += l.out * (l.own_bias ? groups : 1);
      l.d_variance = gradients;
      if (l.local) gradients += size * groups;
    }
  }
};

// W (out, in) as W^T (in, width), padded with zeros.
void transpose(const float* from, std::vector<float>& to, int64_t out, int64_t in, int64_t width) {
  to.assign(in * width, 0.0f);
  constexpr int64_t BLOCK = 16;
  for (int64_t o = 0; o < out; o += BLOCK)
    for (int64_t i = 0; i < in; i++)
      for (int64_t k = o; k < std::min(o + BLOCK, out); k++) to[i * width + k] = from[k * in + i];
}

// W (out, in) with rows padded with zeros.
void pad_rows(const float* from, std::vector<float>& to, int64_t out, int64_t in) {
  const int64_t width = padded(in);
  to.assign(out * width, 0.0f);
  for (int64_t o = 0; o < out; o++) std::memcpy(&to[o * width], from + o * in, in * sizeof(float));
}

void square(const float* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; i++) to[i] = from[i] * from[i];
}

float* scratch(std::vector<float>& room, int64_t size) {
  if ((int64_t)room.size() < size) room.resize(size);
  return room.data();
}

constexpr float TINY = 1.1754943508222875e-38f;  // the smallest normal number, as in networks/gaussian.py

void forward(const int64_t* layout, const float* const* tensors, const float* x, float* y, float* tape) {
  Network net(layout, tensors, tape, nullptr);
  int64_t widest = 0;
  for (auto& l : net.layers) widest = std::max({widest, l.width, padded(l.in)});
  static thread_local std::vector<float> room;
  float* squares = scratch(room, 3 * CHUNK * widest);
  float *variance = squares + CHUNK * widest, *last = variance + CHUNK * widest;
  const int64_t in = net.layers[0].in, out = net.layers.back().out;
  for (int64_t g = 0; g < net.groups; g++) {
    for (auto& l : net.layers) {
      if (g == 0 || l.own_weight)
        transpose(l.of_group(l.weight, l.in * l.out, l.own_weight, g), l.by_input, l.out, l.in, l.width);
      if (l.local) transpose(l.variance + g * l.in * l.out, l.variance_by_input, l.out, l.in, l.width);
      l.bias_row.assign(l.width, 0.0f);
      std::memcpy(l.bias_row.data(), l.of_group(l.bias, l.out, l.own_bias, g), l.out * sizeof(float));
    }
    for (int64_t first = 0; first < net.rows; first += CHUNK) {
      const int64_t n = std::min(CHUNK, net.rows - first), row = g * net.rows + first;
      const float* input = x + row * in;
      int64_t stride = in;
      for (auto& l : net.layers) {
        const bool head = &l == &net.layers.back();
        float* output = head ? last : l.outputs + row * l.width;
        product({input, stride, 1}, l.by_input.data(), l.width, output, l.width, n, l.width, l.in, l.bias_row.data());
        if (l.local) {
          square(input, squares, n * stride);
          product({squares, stride, 1}, l.variance_by_input.data(), l.width, variance, l.width, n, l.width, l.in);
          float* deviation = l.deviation + row * l.width;
          for (int64_t r = 0; r < n; r++)
            for (int64_t j = 0; j < l.out; j++) {
              const float s = std::sqrt(variance[r * l.width + j] + TINY);
              deviation[r * l.width + j] = s;
              output[r * l.width + j] += s * l.zeta[(row + r) * l.out + j];
            }
        }
        if (!head) activate(output, n * l.width, net.activation);
        input = output, stride = l.width;
      }
      for (int64_t r = 0; r < n; r++)
        std::memcpy(y + (row + r) * out, last + r * stride, out * sizeof(float));
    }
  }
}

// Adds a group's sums to the gradients: for the first layer as (in, width), else as (out, padded in).
void add_sums(const float* sums, float* to, const Layer& l, bool by_input) {
  const int64_t in_width = padded(l.in);
  for (int64_t o = 0; o < l.out; o++)
    for (int64_t i = 0; i < l.in; i++) to[o * l.in + i] += by_input ? sums[i * l.width + o] : sums[o * in_width + i];
}

void backward(const int64_t* layout, const float* const* tensors, const float* x, float* tape, const float* dy,
              float* gradients, float* dx) {
  std::memset(gradients, 0, layout[5] * sizeof(float));
  Network net(layout, tensors, tape, gradients);
  int64_t widest = 0;
  for (auto& l : net.layers) widest = std::max({widest, l.width, padded(l.in)});
  static thread_local std::vector<float> room;
  float* of_output = scratch(room, 4 * CHUNK * widest);  // gradient of a layer's outputs before the activation
  float *of_input = of_output + CHUNK * widest, *of_variance = of_input + CHUNK * widest;
  float* squares = of_variance + CHUNK * widest;
  const int64_t in = net.layers[0].in, out = net.layers.back().out, depth = net.layers.size();
  for (int64_t g = 0; g < net.groups; g++) {
    for (auto& l : net.layers) {
      const int64_t size = l.in * l.out, sums = std::max(l.in * l.width, l.out * padded(l.in));
      if (&l != &net.layers[0] || dx) {
        if (g == 0 || l.own_weight) pad_rows(l.of_group(l.weight, size, l.own_weight, g), l.by_output, l.out, l.in);
        if (l.local) pad_rows(l.variance + g * size, l.variance_by_output, l.out, l.in);
      }
      l.sum_weight.assign(sums, 0.0f), l.sum_bias.assign(l.width, 0.0f);
      if (l.local) l.sum_variance.assign(sums, 0.0f);
    }
    for (int64_t first = 0; first < net.rows; first += CHUNK) {
      const int64_t n = std::min(CHUNK, net.rows - first), row = g * net.rows + first;
      const int64_t head_width = net.layers.back().width;
      std::memset(of_output, 0, n * head_width * sizeof(float));
      for (int64_t r = 0; r < n; r++)
        std::memcpy(of_output + r * head_width, dy + (row + r) * out, out * sizeof(float));
      for (int64_t k = depth - 1; k >= 0; k--) {
        Layer& l = net.layers[k];
        const float* input = k ? net.layers[k - 1].outputs + row * net.layers[k - 1].width : x + row * in;
        const int64_t stride = k ? net.layers[k - 1].width : in, in_width = padded(l.in);
        for (int64_t r = 0; r < n; r++)
          for (int64_t j = 0; j < l.width; j++) l.sum_bias[j] += of_output[r * l.width + j];
        // The first layer's inputs are not padded, so that its gradient is summed the other way round.
        if (k)
          product({of_output, 1, l.width}, input, stride, l.sum_weight.data(), in_width, l.out, in_width, n, nullptr, true);
        else
          product({input, 1, stride}, of_output, l.width, l.sum_weight.data(), l.width, l.in, l.width, n, nullptr, true);
        if (l.local) {
          const float* deviation = l.deviation + row * l.width;
          std::memset(of_variance, 0, n * l.width * sizeof(float));
          for (int64_t r = 0; r < n; r++)
            for (int64_t j = 0; j < l.out; j++)
              of_variance[r * l.width + j] =
                  0.5f * of_output[r * l.width + j] * l.zeta[(row + r) * l.out + j] / deviation[r * l.width + j];
          square(input, squares, n * stride);
          if (k)
            product({of_variance, 1, l.width}, squares, stride, l.sum_variance.data(), in_width, l.out, in_width, n, nullptr, true);
          else
            product({squares, 1, stride}, of_variance, l.width, l.sum_variance.data(), l.width, l.in, l.width, n, nullptr, true);
        }
        if (!k && !dx) break;
        product({of_output, l.width, 1}, l.by_output.data(), in_width, of_input, in_width, n, in_width, l.out);
        if (l.local) {
          product({of_variance, l.width, 1}, l.variance_by_output.data(), in_width, squares, in_width, n, in_width, l.out);
          for (int64_t r = 0; r < n; r++)
            for (int64_t i = 0; i < l.in; i++) of_input[r * in_width + i] += 2.0f * squares[r * in_width + i] * input[r * stride + i];
        }
        if (k)
          deactivate(of_input, input, n * in_width, net.activation);
        else
          for (int64_t r = 0; r < n; r++) std::memcpy(dx + (row + r) * in, of_input + r * in_width, in * sizeof(float));
        std::swap(of_output, of_input);
      }
    }
    for (auto& l : net.layers) {
      const int64_t size = l.in * l.out;
      const bool by_input = &l == &net.layers[0];
      add_sums(l.sum_weight.data(), l.d_weight + (l.own_weight ? g * size : 0), l, by_input);
      float* d_bias = l.d_bias + (l.own_bias ? g * l.out : 0);
      for (int64_t j = 0; j < l.out; j++) d_bias[j] += l.sum_bias[j];
      if (l.local) add_sums(l.sum_variance.data(), l.d_variance + g * size, l, by_input);
    }
  }
}

float* data_of(AtenTensorHandle tensor) {
  void* data = nullptr;
  aoti_torch_get_data_ptr(tensor, &data);
  return (float*)data;
}

std::vector<const float*> data_of_all(const AtenTensorHandle* tensors, int64_t count) {
  std::vector<const float*> all(count);
  for (int64_t i = 0; i < count; i++) all[i] = data_of(tensors[i]);
  return all;
}

AtenTensorHandle empty(std::initializer_list<int64_t> sizes) {
  int64_t strides[3];
  int64_t step = 1;
  for (int64_t i = sizes.size() - 1; i >= 0; i--) strides[i] = step, step *= sizes.begin()[i];
  AtenTensorHandle made = nullptr;
  aoti_torch_empty_strided(sizes.size(), sizes.begin(), strides, aoti_torch_dtype_float32(),
                           aoti_torch_device_type_cpu(), 0, &made);
  return made;
}

}  // namespace

extern "C" {

void varshare_mlp_forward(const int64_t* layout, const float* const* tensors, const float* x, float* y, float* tape) {
  forward(layout, tensors, x, y, tape);
}

void varshare_mlp_backward(const int64_t* layout, const float* const* tensors, const float* x, float* tape,
                           const float* dy, float* gradients, float* dx) {
  backward(layout, tensors, x, tape, dy, gradients, dx);
}

// The same as torch's compiler calls them.
AOTITorchError aoti_torch_cpu_varshare_mlp_forward(AtenTensorHandle x, const AtenTensorHandle* tensors, int64_t count,
                                                   const int64_t* layout, int64_t, AtenTensorHandle* y,
                                                   AtenTensorHandle* tape) {
  const int64_t depth = layout[3], out = layout[6 + 5 * (depth - 1) + 1];
  *y = empty({layout[0], layout[1], out}), *tape = empty({layout[4]});
  forward(layout, data_of_all(tensors, count).data(), data_of(x), data_of(*y), data_of(*tape));
  return AOTI_TORCH_SUCCESS;
}

AOTITorchError aoti_torch_cpu_varshare_mlp_backward(AtenTensorHandle dy, AtenTensorHandle x,
                                                    const AtenTensorHandle* tensors, int64_t count,
                                                    AtenTensorHandle tape, const int64_t* layout, int64_t,
                                                    int32_t of_input, AtenTensorHandle* gradients,
                                                    AtenTensorHandle* dx) {
  *gradients = empty({layout[5]}), *dx = empty({layout[0], layout[1], of_input ? layout[6] : 0});
  backward(layout, data_of_all(tensors, count).data(), data_of(x), data_of(tape), data_of(dy), data_of(*gradients),
           of_input ? data_of(*dx) : nullptr);
  return AOTI_TORCH_SUCCESS;
}

}  // extern "C"
