/*
 * symbols.cuh: functions of NVIDIA's libraries that the emulation brings itself. X(name) stands for
 * `extern "C"` emu_name, which gpu_module.symbol("name") gives.
 */
#ifndef MSERVE_KERNELS_CUDA_EMU_SYMBOLS_CUH
#define MSERVE_KERNELS_CUDA_EMU_SYMBOLS_CUH

/* clang-format off */
#define EMU_SYMBOLS(X) \
    X(nvmlInit_v2) X(nvmlShutdown) X(nvmlDeviceGetHandleByPciBusId_v2) X(nvmlDeviceGetHandleByUUID) \
    X(nvmlDeviceGetMemoryInfo) X(nvmlDeviceGetUtilizationRates) X(nvmlDeviceGetPowerUsage) \
    X(nvmlDeviceGetTemperature) X(nvmlDeviceGetTotalEccErrors) X(nvmlDeviceGetRemappedRows) \
    X(nvmlDeviceGetCurrentClocksThrottleReasons) X(nvmlEventSetCreate) X(nvmlEventSetFree) \
    X(nvmlDeviceRegisterEvents) X(nvmlEventSetWait_v2) \
    X(cublasLtCreate) X(cublasLtDestroy) X(cublasLtGetVersion) X(cublasLtGetStatusString) \
    X(cublasLtMatmulDescCreate) X(cublasLtMatmulDescDestroy) X(cublasLtMatmulDescSetAttribute) \
    X(cublasLtMatrixLayoutCreate) X(cublasLtMatrixLayoutDestroy) \
    X(cublasLtMatmulPreferenceCreate) X(cublasLtMatmulPreferenceDestroy) \
    X(cublasLtMatmulPreferenceSetAttribute) X(cublasLtMatmulAlgoGetHeuristic) \
    X(cublasLtMatmulAlgoCheck) X(cublasLtMatmulAlgoConfigGetAttribute) X(cublasLtMatmul)
/* clang-format on */

void *emu_symbol(const char *name); /* NULL: there is none */

#endif
