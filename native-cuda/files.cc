#include "files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>

#include "device.h"

namespace {
constexpr size_t BLOCK = 16 << 20;
// Threads that read: one core copies about 5-8 GB/s out of the page cache.
constexpr int READERS = 4;

struct Load {
  std::string path;
  std::vector<FilePart> blocks;  // at most BLOCK bytes each
  CUcontext context;
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> done{0};
  std::atomic<int> running{READERS};
  std::mutex mutex;
  std::string error;
  std::vector<std::thread> threads;
  Napi::ThreadSafeFunction report;
  Napi::Promise::Deferred deferred;
  explicit Load(Napi::Env env) : deferred(env) {}
};

void readAll(int file, uint8_t *to, uint64_t offset, size_t bytes) {
  while (bytes > 0) {
    ssize_t got = pread(file, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw std::runtime_error(std::string("read: ") + strerror(errno));
    if (got == 0) throw std::runtime_error("the file ends at byte " + std::to_string(offset) + ", expected more");
    to += got;
    offset += got;
    bytes -= got;
  }
}

// Two pinned buffers a thread: one is read into while the other is copied to the device.
void work(Load &load) {
  CHECK(driver().cuCtxSetCurrent(load.context));
  int file = open(load.path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw std::runtime_error("cannot open " + load.path + ": " + strerror(errno));
  struct Buffer {
    uint8_t *memory = nullptr;
    CUevent free = nullptr;
  } buffers[2];
  CUstream stream = nullptr;
  auto release = [&] {
    if (stream) driver().cuStreamSynchronize(stream);
    for (Buffer &buffer : buffers) {
      if (buffer.memory) driver().cuMemFreeHost(buffer.memory);
      if (buffer.free) driver().cuEventDestroy(buffer.free);
    }
    if (stream) driver().cuStreamDestroy(stream);
    close(file);
  };
  try {
    CHECK(driver().cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0));
    for (Buffer &buffer : buffers) {
      CHECK(driver().cuMemHostAlloc(reinterpret_cast<void **>(&buffer.memory), BLOCK, 0));
      CHECK(driver().cuEventCreate(&buffer.free, CU_EVENT_DISABLE_TIMING));
    }
    int turn = 0;
    for (;;) {
      size_t at = load.next++;
      if (at >= load.blocks.size()) break;
      const FilePart &block = load.blocks[at];
      Buffer &buffer = buffers[turn ^= 1];
      CHECK(driver().cuEventSynchronize(buffer.free));
      readAll(file, buffer.memory, block.offset, block.bytes);
      CHECK(driver().cuMemcpyHtoDAsync(block.to, buffer.memory, block.bytes, stream));
      CHECK(driver().cuEventRecord(buffer.free, stream));
      load.done += block.bytes;
      uint64_t bytes = load.done;
      load.report.NonBlockingCall([bytes](Napi::Env env, Napi::Function callback) {
        callback.Call({Napi::Number::New(env, static_cast<double>(bytes))});
      });
    }
    CHECK(driver().cuStreamSynchronize(stream));
  } catch (...) {
    release();
    throw;
  }
  release();
}
}  // namespace

Napi::Value loadParts(Napi::Env env, CUcontext context, std::string path, std::vector<FilePart> parts,
                      Napi::Function progress) {
  auto *load = new Load(env);
  load->path = std::move(path);
  load->context = context;
  for (const FilePart &part : parts) {
    for (uint64_t at = 0; at < part.bytes; at += BLOCK) {
      load->blocks.push_back({part.to + at, part.offset + at, std::min<uint64_t>(BLOCK, part.bytes - at)});
    }
  }
  // Called with the bytes so far; the finalizer, once all threads are gone, settles the promise.
  load->report = Napi::ThreadSafeFunction::New(
      env, progress, "nanoflow-cuda load", 0, READERS, [load](Napi::Env env) {
        for (std::thread &thread : load->threads) thread.join();
        if (load->error.empty()) load->deferred.Resolve(env.Undefined());
        else load->deferred.Reject(Napi::Error::New(env, load->error).Value());
        delete load;
      });
  Napi::Promise promise = load->deferred.Promise();
  for (int i = 0; i < READERS; i++) {
    load->threads.emplace_back([load] {
      try {
        work(*load);
      } catch (const std::exception &error) {
        std::lock_guard<std::mutex> lock(load->mutex);
        if (load->error.empty()) load->error = load->path + ": " + error.what();
        load->next = load->blocks.size();
      }
      load->report.Release();
    });
  }
  return promise;
}
