/* attend.h: attention of one key head (struct attend in loops.h), for each instruction set. */
#ifndef MSERVE_KERNELS_CPU_ATTEND_H
#define MSERVE_KERNELS_CPU_ATTEND_H

struct attend;

void attend_scalar(const struct attend *attend);
void attend_avx2(const struct attend *attend);
void attend_avx512(const struct attend *attend);

#endif
