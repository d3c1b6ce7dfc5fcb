#include "device.h"

Waiter::Waiter(Napi::Env env, CUcontext context) {
  function_ = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo &) {}),
                                            "nanoflow-cuda", 0, 1);
  function_.Unref(env);  // an idle device keeps no process alive
  thread_ = std::thread([this, context] { run(context); });
}

void Waiter::destroy() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    end_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  function_.Release();
}

void Waiter::wait(Napi::Env env, CUevent event, Done done) {
  if (pending_++ == 0) function_.Ref(env);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    entries_.push_back({event, std::move(done), ""});
  }
  wake_.notify_one();
}

void Waiter::run(CUcontext context) {
  driver().cuCtxSetCurrent(context);
  for (;;) {
    Entry entry;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return end_ || !entries_.empty(); });
      if (entries_.empty()) return;
      entry = std::move(entries_.front());
      entries_.pop_front();
    }
    try {
      CHECK(driver().cuEventSynchronize(entry.event));
    } catch (const CudaError &error) {
      entry.error = error.what();
    }
    driver().cuEventDestroy(entry.event);
    auto *arrived = new Entry(std::move(entry));
    function_.NonBlockingCall(arrived, [this](Napi::Env env, Napi::Function, Entry *got) {
      std::unique_ptr<Entry> owned(got);
      if (--pending_ == 0) function_.Unref(env);
      owned->done(env, owned->error);
    });
  }
}
