/* The optimisers' steps on the CPU; `muon_reference` in optimizer.py and torch.optim.Adam are their
 * meaning. For networks this small a call of torch costs more than the arithmetic. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "lanes.h"

double norm(int64_t size, const float *x)
{
    double sum = 0.0;
    for (int64_t i = 0; i < size; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

/* What has faded this far changes nothing, but a processor takes a hundred times as long to multiply
 * denormal numbers: moments of units that get no gradient any more fade until they are such. */
#define FADED 1e-30f   /* a moment */
#define NOTHING 1e-12f /* beside 1, a whole matrix's length: its third power is still a normal number */

INLINE float without(float least, float x) { return fabsf(x) < least ? 0.0f : x; }

void scale(int64_t size, float factor, float *x)
{
    for (int64_t i = 0; i < size; i++)
        x[i] *= factor;
}

/* Adam (Kingma and Ba 2015) with its bias corrections; `step` counts from 1. */
void adam(int64_t size, float *restrict param, const float *restrict grad, float *restrict mean,
          float *restrict square, int64_t step, float rate, float beta1, float beta2, float epsilon)
{
    float correction1 = (float)(1.0 - pow(beta1, (double)step));
    float correction2 = (float)sqrt(1.0 - pow(beta2, (double)step));
    for (int64_t i = 0; i < size; i++) {
        mean[i] = without(FADED, mean[i] + (1.0f - beta1) * (grad[i] - mean[i]));
        square[i] = beta2 * square[i] + (1.0f - beta2) * grad[i] * grad[i];
        param[i] -= rate / correction1 * mean[i] / (sqrtf(square[i]) / correction2 + epsilon);
    }
}

/* out[m, m] = x x^T for x [m, stride]; 4 x 4 results at a time stay in registers. */
static void gram(int64_t m, int64_t stride, const float *x, float *out, int64_t out_stride)
{
    for (int64_t i = 0; i < m; i += 4)
        for (int64_t j = 0; j <= i; j += 4) {
            lanes sums[4][4] = {{{0}}};
            for (int64_t k = 0; k < stride; k += LANES)
                for (int a = 0; a < 4; a++) {
                    lanes left = *(const lanes *)(x + (i + a) * stride + k);
                    for (int b = 0; b < 4; b++)
                        sums[a][b] = fused(left, *(const lanes *)(x + (j + b) * stride + k), sums[a][b]);
                }
            for (int a = 0; a < 4; a++)
                for (int b = 0; b < 4; b++)
                    out[(i + a) * out_stride + j + b] = out[(j + b) * out_stride + i + a] = sum_lanes(sums[a][b]);
        }
}

/* 16 columns of `rows` rows (4 or 8, known when compiled) of alpha * x + left x */
INLINE void strip(int rows, int64_t m, int64_t stride, const float *left, int64_t left_stride, const float *x,
                  const float *own, float alpha, float *out)
{
    lanes sums[8];
    for (int a = 0; a < rows; a++)
        sums[a] = alpha * *(const lanes *)(own + a * stride);
    for (int64_t k = 0; k < m; k++) {
        lanes right = *(const lanes *)(x + k * stride);
        for (int a = 0; a < rows; a++)
            sums[a] = fused(all(left[a * left_stride + k]), right, sums[a]);
    }
    for (int a = 0; a < rows; a++)
        *(lanes *)(out + a * stride) = sums[a];
}

/* out = alpha * x + left x, for left [m, left_stride], x and out [m, stride]; m is a multiple of 4 */
static void multiply(int64_t m, int64_t stride, const float *left, int64_t left_stride, const float *x,
                     float alpha, float *out)
{
    for (int64_t j = 0; j < stride; j += LANES) {
        int64_t i = 0;
        for (; i + 8 <= m; i += 8)
            strip(8, m, stride, left + i * left_stride, left_stride, x + j, x + i * stride + j, alpha,
                  out + i * stride + j);
        if (i < m)
            strip(4, m, stride, left + i * left_stride, left_stride, x + j, x + i * stride + j, alpha,
                  out + i * stride + j);
    }
}

/* One step of Muon on a matrix [rows, columns]. `scratch` holds 2 * (m * n + m * m) floats, m the
 * smaller side rounded up to 16 and n the larger one. The padding is zero and stays zero. */
void muon(int64_t rows, int64_t columns, float *param, const float *grad, float *momentum_buffer,
          float rate, float momentum, int64_t iterations, float *scratch)
{
    int64_t small = rows < columns ? rows : columns, large = rows < columns ? columns : rows;
    int64_t m = (small + 3) / 4 * 4, pad = (small + LANES - 1) / LANES * LANES;
    int64_t n = (large + LANES - 1) / LANES * LANES;
    int64_t down = rows < columns ? n : 1, across = rows < columns ? 1 : n; /* strides of x[row, column] */
    float *x = scratch, *next = x + pad * n, *a = next + pad * n, *b = a + pad * pad;
    memset(scratch, 0, 2 * (size_t)(pad * n + pad * pad) * sizeof(float));

    double squares = 0.0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) {
            float *buffer = momentum_buffer + r * columns + c, g = grad[r * columns + c];
            *buffer = without(FADED, *buffer + (1.0f - momentum) * (g - *buffer));
            float nesterov = g + momentum * (*buffer - g);
            x[r * down + c * across] = nesterov;
            squares += (double)nesterov * nesterov;
        }
    float length = (float)sqrt(squares);
    float shrink = 1.0f / (length > 1e-7f ? length : 1e-7f);
    for (int64_t i = 0; i < m * n; i++)
        x[i] = without(NOTHING, x[i] * shrink);

    /* Newton-Schulz: the singular values move towards 1 by an odd polynomial. */
    for (int64_t i = 0; i < iterations; i++) {
        gram(m, n, x, a, pad);
        multiply(m, pad, a, pad, a, -4.7750f / 2.0315f, b);
        scale(m * pad, 2.0315f, b);
        multiply(m, n, b, pad, x, 3.4445f, next);
        float *swap = x;
        x = next, next = swap;
    }

    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++)
            param[r * columns + c] -= rate * x[r * down + c * across];
}
