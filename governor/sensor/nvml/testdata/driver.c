/* A stand-in for NVIDIA's libnvidia-ml.so.1, as little as a driver can be: binding_test.go says
 * what it expects. */
#include <stddef.h>

enum { OK = 0, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };

#ifndef NO_INIT
int nvmlInit_v2(void) {
    static int calls;
    return ++calls <= 2 ? DRIVER_NOT_LOADED : OK;
}

int nvmlShutdown(void) {
    return OK;
}
#endif

const char *nvmlErrorString(int error) {
    (void)error;
    return "an error";
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    static int gpu;
    *device = &gpu;
    return index == 0 ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetUtilizationRates(void *device, unsigned int *percent) {
    static int calls;
    (void)device;
    percent[0] = 50;
    percent[1] = 10;
    return ++calls == 2 ? GPU_IS_LOST : OK;
}

int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *bytes) {
    (void)device;
    (void)bytes;
    return NOT_SUPPORTED;
}

int nvmlDeviceGetTemperatureV(void *device, unsigned int *temperature) {
    (void)device;
    temperature[2] = 47;
    return OK;
}
