/* maths.c: argument reduction, then a short series. */
#include "kernels/maths.h"

static const double ln2_high =
    0x1.62e42feep-1; /* its low 21 bits are zero: n * ln2_high is exact */
static const double ln2_low = 0x1.a39ef35793c76p-33;

static double whole(double x)
{
    return (x + 0x1.8p52) - 0x1.8p52;
}

static double power_of_two(int64_t n)
{
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

double maths_exp(double x)
{
    double n = whole(x * 1.4426950408889634);
    double r = (x - n * ln2_high) - n * ln2_low;
    double sum = 1.0;

    for (int i = 16; i >= 1; i--)
        sum = 1.0 + sum * r / i;
    return sum * power_of_two((int64_t)n);
}

/* x = 2^n m with m in [sqrt(1/2), sqrt(2)); log m = 2 artanh((m - 1) / (m + 1)). */
double maths_log(double x)
{
    uint64_t bits;
    int64_t n;
    double m, s, sum = 0.0;

    memcpy(&bits, &x, sizeof(bits));
    n = (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
    memcpy(&m, &bits, sizeof(m));
    if (m > 1.4142135623730951) {
        m *= 0.5;
        n++;
    }
    s = (m - 1.0) / (m + 1.0);
    for (int i = 21; i >= 1; i -= 2)
        sum = sum * s * s + 1.0 / i;
    return (double)n * ln2_high + (2.0 * s * sum + (double)n * ln2_low);
}

/* Series on [-pi/4, pi/4] after taking away a multiple of pi/2 in three parts. */
void maths_sincos(double x, double *sine, double *cosine)
{
    double n = whole(x * 0.6366197723675814);
    double r = ((x - n * 0x1.921fb544p+0) - n * 0x1.0b4611a6p-34) - n * 0x1.3198a2e037073p-69;
    double r2 = r * r;
    double s = 1.0;
    double c = 1.0;

    for (int i = 18; i >= 2; i -= 2) {
        s = 1.0 - s * r2 / (i * (i + 1));
        c = 1.0 - c * r2 / (i * (i - 1));
    }
    s *= r;
    switch ((int64_t)n & 3) {
    case 0:
        *sine = s;
        *cosine = c;
        break;
    case 1:
        *sine = c;
        *cosine = -s;
        break;
    case 2:
        *sine = -s;
        *cosine = -c;
        break;
    default:
        *sine = -c;
        *cosine = s;
        break;
    }
}
