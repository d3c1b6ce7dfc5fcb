#include <cstring>

#include "device.h"

Staging::~Staging() = default;

void Staging::destroy() {
  for (Chunk &chunk : chunks_) {
    if (chunk.memory) driver().cuMemFreeHost(chunk.memory);
    if (chunk.free) driver().cuEventDestroy(chunk.free);
    chunk = Chunk();
  }
}

// Room for `bytes` (at most CHUNK) in the current chunk, or in the next one once its copies have left it.
uint8_t *Staging::place(CUstream stream, size_t bytes) {
  if (at_ + bytes > CHUNK) {
    CHECK(driver().cuEventRecord(chunks_[current_].free, stream));
    chunks_[current_].used = true;
    current_ = (current_ + 1) % CHUNKS;
    at_ = 0;
    Chunk &next = chunks_[current_];
    if (next.used) CHECK(driver().cuEventSynchronize(next.free));
    next.used = false;
  }
  Chunk &chunk = chunks_[current_];
  if (!chunk.memory) {
    CHECK(driver().cuMemHostAlloc(reinterpret_cast<void **>(&chunk.memory), CHUNK, 0));
    CHECK(driver().cuEventCreate(&chunk.free, CU_EVENT_DISABLE_TIMING));
  }
  uint8_t *result = chunk.memory + at_;
  at_ = (at_ + bytes + 63) & ~size_t(63);
  return result;
}

void Staging::write(CUstream stream, CUdeviceptr to, const uint8_t *data, size_t bytes) {
  while (bytes > 0) {
    size_t part = bytes < CHUNK ? bytes : CHUNK;
    uint8_t *memory = place(stream, part);
    memcpy(memory, data, part);
    CHECK(driver().cuMemcpyHtoDAsync(to, memory, part, stream));
    to += part;
    data += part;
    bytes -= part;
  }
}
