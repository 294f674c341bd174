/* CUDA's runtime API, and what PyCUDA needs of the driver API, over the host's memory and a virtual clock.
 *
 * Work is put into streams and done when the host waits long enough, so that reading too early reads the old content.
 * The rules of the real library that a caller can break are errors here, also those that it leaves undefined: handles
 * are checked, events are recorded before they are waited for or compared, copies stay inside allocations, and nothing
 * that waits is called while a stream is captured.  Every call is logged, any can be made to fail, and what is not
 * given back is counted.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_HANDLE = 400, ILLEGAL_STATE = 401,
       NOT_READY = 600, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };
enum { DEVICE = 1, PINNED, STREAM, EVENT, GRAPH, EXEC };
enum { MOST = 4096, MOST_OPS = 64, CALL_NS = 100, COPY_NS = 1000, MEMORY = 1 << 26 };

typedef struct { void *to; const void *from; size_t size; int compute; long ns, end; } Op;
typedef struct { int kind, capturing, broken, recorded, count; char *memory; size_t size; long time; Op ops[MOST_OPS]; } Object;

static Object *objects[MOST];
static Op pending[MOST];
static int objects_count, pending_count, last_error, fail_code, fail_after;
static char fail_name[64], log_text[1 << 20];
static long host_ns;
static size_t used;

static int enter(const char *name) {
    size_t length = strlen(log_text);
    if (length + 80 < sizeof log_text) snprintf(log_text + length, 80, "%s\n", name);
    host_ns += CALL_NS;
    if (fail_code && !strcmp(name, fail_name) && fail_after-- == 0) { last_error = fail_code; fail_code = 0; return last_error; }
    return SUCCESS;
}
static int leave(int error) { if (error) last_error = error; return error; }
#define ENTER(name) { int failed = enter(name); if (failed) return failed; }

static Object *make(int kind, size_t size) {
    Object *object = calloc(1, sizeof *object);
    object->kind = kind;
    if (size) object->memory = calloc(1, size);
    object->size = size;
    used += kind == DEVICE ? size : 0;
    return objects[objects_count++] = object;
}
static Object *find(const void *handle, int kind) {
    for (int i = 0; i < objects_count; i++) {
        Object *object = objects[i];
        const void *own = kind == DEVICE || kind == PINNED ? (void *)object->memory : (void *)object;
        if (object->kind == kind && own == handle) return object;
    }
    return NULL;
}
static int inside(const void *pointer, size_t size) {
    for (int i = 0; i < objects_count; i++) {
        Object *object = objects[i];
        if (object->kind != DEVICE || (const char *)pointer < object->memory) continue;
        if ((const char *)pointer + size <= object->memory + object->size) return 1;
    }
    return 0;
}
static int capturing(void) {
    for (int i = 0; i < objects_count; i++)
        if (objects[i]->kind == STREAM && objects[i]->capturing) return objects[i]->broken = 1;
    return 0;
}
static void wait_until(long time) {
    if (time > host_ns) host_ns = time;
    for (;;) {
        int first = -1;
        for (int i = 0; i < pending_count; i++)
            if (pending[i].end <= host_ns && (first < 0 || pending[i].end < pending[first].end)) first = i;
        if (first < 0) return;
        Op op = pending[first];
        memmove(pending + first, pending + first + 1, (--pending_count - first) * sizeof *pending);
        if (!op.compute) memcpy(op.to, op.from, op.size);
        else for (size_t i = 0; i < op.size / sizeof(float); i++) ((float *)op.to)[i] = 2 * ((const float *)op.from)[i];
    }
}
static void wait_for_all(void) {
    long last = host_ns;
    for (int i = 0; i < pending_count; i++) if (pending[i].end > last) last = pending[i].end;
    wait_until(last);
}
static int put(Object *stream, Op op) {
    if (stream->capturing) { stream->ops[stream->count++] = op; return SUCCESS; }
    stream->time = (stream->time > host_ns ? stream->time : host_ns) + op.ns;
    op.end = stream->time;
    pending[pending_count++] = op;
    return SUCCESS;
}
static int destroy(const void *handle, int kind) {
    Object *object = find(handle, kind);
    if (!object) return leave(kind == DEVICE || kind == PINNED ? INVALID_VALUE : INVALID_HANDLE);
    wait_for_all();
    used -= kind == DEVICE ? object->size : 0;
    for (int i = 0; i < objects_count; i++)
        if (objects[i] == object) { objects[i] = objects[--objects_count]; break; }
    free(object->memory);
    free(object);
    return SUCCESS;
}
static int allocate(void **pointer, size_t size, int kind) {
    if (capturing()) return leave(CAPTURE_UNSUPPORTED);
    if (kind == DEVICE && used + size > MEMORY) return leave(OUT_OF_MEMORY);
    if (!size) return leave(INVALID_VALUE);
    *pointer = make(kind, size)->memory;
    return SUCCESS;
}
static int copy(void *to, const void *from, size_t size, int kind, void *handle) {
    Object *stream = find(handle, STREAM);
    if (!stream) return leave(INVALID_HANDLE);
    if (!inside(kind == 1 ? to : from, size)) return leave(INVALID_VALUE);
    return put(stream, (Op){to, from, size, 0, COPY_NS + (long)size, 0});
}
static int record(void *event_handle, void *stream_handle) {
    Object *event = find(event_handle, EVENT), *stream = find(stream_handle, STREAM);
    if (!event || !stream) return leave(INVALID_HANDLE);
    event->recorded = !stream->capturing;
    event->time = stream->time > host_ns ? stream->time : host_ns;
    return SUCCESS;
}
static int wait_event(void *handle) {
    Object *event = find(handle, EVENT);
    if (!event || !event->recorded) return leave(INVALID_HANDLE);
    if (capturing()) return leave(CAPTURE_UNSUPPORTED);
    wait_until(event->time);
    return SUCCESS;
}
static int wait_stream(void *handle) {
    Object *stream = find(handle, STREAM);
    if (!stream) return leave(INVALID_HANDLE);
    if (capturing()) return leave(CAPTURE_UNSUPPORTED);
    wait_until(stream->time);
    return SUCCESS;
}
static int stream_waits(void *stream_handle, void *event_handle) {
    Object *event = find(event_handle, EVENT), *stream = find(stream_handle, STREAM);
    if (!event || !stream || !event->recorded) return leave(INVALID_HANDLE);
    if (event->time > stream->time) stream->time = event->time;
    return SUCCESS;
}
static int elapsed(float *ms, void *earlier_handle, void *later_handle) {
    Object *earlier = find(earlier_handle, EVENT), *later = find(later_handle, EVENT);
    if (!earlier || !later || !earlier->recorded || !later->recorded) return leave(INVALID_HANDLE);
    if (earlier->time > host_ns || later->time > host_ns) return leave(NOT_READY);
    *ms = (later->time - earlier->time) / 1e6f;
    return SUCCESS;
}

/* ---- the runtime API ---- */
#define CALL(name, parameters, ...) EXPORT int name parameters { ENTER(#name) __VA_ARGS__ }
CALL(cudaGetDeviceCount, (int *count), *count = getenv("STUB_DEVICES") ? atoi(getenv("STUB_DEVICES")) : 1; return SUCCESS;)
CALL(cudaSetDevice, (int device), return leave(device ? INVALID_VALUE : SUCCESS);)
CALL(cudaSetDeviceFlags, (unsigned flags), return leave(flags == 1 || flags == 4 ? SUCCESS : INVALID_VALUE);)
CALL(cudaDeviceGetAttribute, (int *value, int attribute, int device),
     *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 16 ? 14 : attribute == 18 ? 1 : -1;
     return leave(device || *value < 0 ? INVALID_VALUE : SUCCESS);)
CALL(cudaGetDeviceProperties, (char *properties, int device),
     snprintf(properties, 256, "Stub GPU"); return leave(device ? INVALID_VALUE : SUCCESS);)
CALL(cudaRuntimeGetVersion, (int *version), *version = 12060; return SUCCESS;)
CALL(cudaDriverGetVersion, (int *version), *version = 13000; return SUCCESS;)
CALL(cudaMemGetInfo, (size_t *free_bytes, size_t *total), *free_bytes = MEMORY - used; *total = MEMORY; return SUCCESS;)
CALL(cudaMalloc, (void **pointer, size_t size), return allocate(pointer, size, DEVICE);)
CALL(cudaFree, (void *pointer), return destroy(pointer, DEVICE);)
CALL(cudaHostAlloc, (void **pointer, size_t size, unsigned flags), return flags ? leave(INVALID_VALUE) : allocate(pointer, size, PINNED);)
CALL(cudaFreeHost, (void *pointer), return destroy(pointer, PINNED);)
CALL(cudaMemcpyAsync, (void *to, const void *from, size_t size, int kind, void *stream),
     return kind == 1 || kind == 2 ? copy(to, from, size, kind, stream) : leave(INVALID_VALUE);)
CALL(cudaStreamCreateWithFlags, (void **stream, unsigned flags), *stream = make(STREAM, 0); return leave(flags == 1 ? SUCCESS : INVALID_VALUE);)
CALL(cudaStreamDestroy, (void *stream), return destroy(stream, STREAM);)
CALL(cudaStreamSynchronize, (void *stream), return wait_stream(stream);)
CALL(cudaStreamWaitEvent, (void *stream, void *event, unsigned flags), return flags ? leave(INVALID_VALUE) : stream_waits(stream, event);)
CALL(cudaEventCreateWithFlags, (void **event, unsigned flags), if (flags > 1) return leave(INVALID_VALUE); *event = make(EVENT, 0); return SUCCESS;)
CALL(cudaEventDestroy, (void *event), return destroy(event, EVENT);)
CALL(cudaEventRecord, (void *event, void *stream), return record(event, stream);)
CALL(cudaEventSynchronize, (void *event), return wait_event(event);)
CALL(cudaEventElapsedTime, (float *ms, void *earlier, void *later), return elapsed(ms, earlier, later);)
EXPORT int cudaLaunchHostFunc(void *handle, void (*function)(void *), void *data) {
    ENTER("cudaLaunchHostFunc")
    Object *stream = find(handle, STREAM);
    if (!stream) return leave(INVALID_HANDLE);
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    function(data);
    clock_gettime(CLOCK_MONOTONIC, &after);
    return put(stream, (Op){.ns = (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec});
}
EXPORT int cudaStreamBeginCapture(void *handle, int mode) {
    ENTER("cudaStreamBeginCapture")
    Object *stream = find(handle, STREAM);
    if (!stream || mode != 1) return leave(INVALID_VALUE);
    if (stream->capturing) return leave(ILLEGAL_STATE);
    stream->capturing = 1;
    stream->broken = stream->count = 0;
    return SUCCESS;
}
EXPORT int cudaStreamEndCapture(void *handle, void **graph) {
    Object *stream = find(handle, STREAM);
    int was = stream ? stream->capturing : 0;
    if (stream) stream->capturing = 0;
    ENTER("cudaStreamEndCapture")
    if (!was) return leave(ILLEGAL_STATE);
    *graph = NULL;
    if (stream->broken) return leave(CAPTURE_INVALIDATED);
    Object *made = make(GRAPH, 0);
    made->count = stream->count;
    memcpy(made->ops, stream->ops, sizeof made->ops);
    *graph = made;
    return SUCCESS;
}
EXPORT int cudaGraphInstantiateWithFlags(void **exec, void *handle, unsigned long long flags) {
    ENTER("cudaGraphInstantiateWithFlags")
    Object *graph = find(handle, GRAPH);
    if (!graph || flags) return leave(INVALID_VALUE);
    Object *made = make(EXEC, 0);
    made->count = graph->count;
    memcpy(made->ops, graph->ops, sizeof made->ops);
    *exec = made;
    return SUCCESS;
}
EXPORT int cudaGraphLaunch(void *exec_handle, void *stream_handle) {
    ENTER("cudaGraphLaunch")
    Object *exec = find(exec_handle, EXEC), *stream = find(stream_handle, STREAM);
    if (!exec || !stream) return leave(INVALID_HANDLE);
    for (int i = 0; i < exec->count; i++) put(stream, exec->ops[i]);
    return SUCCESS;
}
CALL(cudaGraphExecDestroy, (void *exec), return destroy(exec, EXEC);)
CALL(cudaGraphDestroy, (void *graph), return destroy(graph, GRAPH);)
EXPORT int cudaGetLastError(void) { int error = last_error; last_error = SUCCESS; return error; }
EXPORT const char *cudaGetErrorName(int error) {
    switch (error) {
    case SUCCESS: return "cudaSuccess";
    case INVALID_VALUE: return "cudaErrorInvalidValue";
    case OUT_OF_MEMORY: return "cudaErrorMemoryAllocation";
    case 35: return "cudaErrorInsufficientDriver";
    case NO_DEVICE: return "cudaErrorNoDevice";
    case INVALID_HANDLE: return "cudaErrorInvalidResourceHandle";
    case ILLEGAL_STATE: return "cudaErrorIllegalState";
    case NOT_READY: return "cudaErrorNotReady";
    case 700: return "cudaErrorIllegalAddress";
    case CAPTURE_UNSUPPORTED: return "cudaErrorStreamCaptureUnsupported";
    case CAPTURE_INVALIDATED: return "cudaErrorStreamCaptureInvalidated";
    default: return "unrecognized error code";
    }
}

/* ---- the driver API, as far as PyCUDA is used ---- */
#define ALSO(name, parameters, ...) EXPORT int name parameters { ENTER(#name) return __VA_ARGS__; }
ALSO(cuInit, (unsigned flags), leave(flags))
ALSO(cuDriverGetVersion, (int *version), (*version = 13000, SUCCESS))
ALSO(cuDeviceGetCount, (int *count), (*count = getenv("STUB_DEVICES") ? atoi(getenv("STUB_DEVICES")) : 1, SUCCESS))
ALSO(cuDeviceGet, (int *device, int ordinal), (*device = ordinal, SUCCESS))
ALSO(cuDeviceGetName, (char *name, int size, int device), (snprintf(name, size, "Stub GPU"), leave(device)))
ALSO(cuDeviceComputeCapability, (int *major, int *minor, int device), (*major = 8, *minor = 7, leave(device)))
ALSO(cuDeviceGetAttribute, (int *value, int attribute, int device), cudaDeviceGetAttribute(value, attribute, device))
ALSO(cuDeviceTotalMem_v2, (size_t *bytes, int device), (*bytes = MEMORY, leave(device)))
ALSO(cuDevicePrimaryCtxRetain, (void **context, int device), (*context = log_text, leave(device)))
ALSO(cuDevicePrimaryCtxRelease_v2, (int device), leave(device))
ALSO(cuDevicePrimaryCtxSetFlags_v2, (int device, unsigned flags), leave(device || (flags != 1 && flags != 4)))
ALSO(cuCtxPushCurrent_v2, (void *context), leave(!context))
ALSO(cuCtxPopCurrent_v2, (void **context), (*context = log_text, SUCCESS))
ALSO(cuCtxGetDevice, (int *device), (*device = 0, SUCCESS))
ALSO(cuMemGetInfo_v2, (size_t *free_bytes, size_t *total), cudaMemGetInfo(free_bytes, total))
ALSO(cuMemAlloc_v2, (void **pointer, size_t size), allocate(pointer, size, DEVICE))
ALSO(cuMemFree_v2, (void *pointer), destroy(pointer, DEVICE))
ALSO(cuMemHostAlloc, (void **pointer, size_t size, unsigned flags), flags ? leave(INVALID_VALUE) : allocate(pointer, size, PINNED))
ALSO(cuMemFreeHost, (void *pointer), destroy(pointer, PINNED))
ALSO(cuMemcpyHtoDAsync_v2, (void *to, const void *from, size_t size, void *stream), copy(to, from, size, 1, stream))
ALSO(cuMemcpyDtoHAsync_v2, (void *to, const void *from, size_t size, void *stream), copy(to, from, size, 2, stream))
ALSO(cuStreamCreate, (void **stream, unsigned flags), (*stream = make(STREAM, 0), leave(flags != 1)))
ALSO(cuStreamDestroy_v2, (void *stream), destroy(stream, STREAM))
ALSO(cuStreamSynchronize, (void *stream), wait_stream(stream))
ALSO(cuStreamWaitEvent, (void *stream, void *event, unsigned flags), flags ? leave(INVALID_VALUE) : stream_waits(stream, event))
ALSO(cuEventCreate, (void **event, unsigned flags), flags > 1 ? leave(INVALID_VALUE) : (*event = make(EVENT, 0), SUCCESS))
ALSO(cuEventDestroy_v2, (void *event), destroy(event, EVENT))
ALSO(cuEventRecord, (void *event, void *stream), record(event, stream))
ALSO(cuEventSynchronize, (void *event), wait_event(event))
ALSO(cuEventElapsedTime_v2, (float *ms, void *earlier, void *later), elapsed(ms, earlier, later))
EXPORT int cuGetErrorString(int error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : error == NO_DEVICE ? "no CUDA-capable device is detected" : "an error of the stub";
    return SUCCESS;
}

/* ---- for the tests ---- */
EXPORT int stub_compute(void *handle, void *to, const void *from, size_t size, long ns) {
    Object *stream = find(handle, STREAM);
    if (!stream) return INVALID_HANDLE;
    if (!inside(to, size) || !inside(from, size)) return INVALID_VALUE;
    return put(stream, (Op){to, from, size, 1, ns, 0});
}
EXPORT int stub_live(void) { return objects_count; }
EXPORT int stub_last_error(void) { return last_error; }
EXPORT const char *stub_log(void) { return log_text; }
EXPORT void stub_clear_log(void) { log_text[0] = 0; }
EXPORT void stub_fail(const char *name, int code, int after) {
    snprintf(fail_name, sizeof fail_name, "%s", name);
    fail_code = code;
    fail_after = after;
}
EXPORT int stub_percentile_index(float percentile, int all) { /* the arithmetic of trtexec's findPercentile */
    int exclude = (int)((1 - percentile / 100) * all);
    return all - 1 - exclude > 0 ? all - 1 - exclude : 0;
}
