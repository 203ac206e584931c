// Passes the rows of a decoder to a resizer.
#pragma once

#include <atomic>

#include "codec/codec.h"
#include "common/error.h"
#include "resize/resize.h"

namespace lds {

class ResizerSink : public RowSink {
 public:
  // When `stop` becomes true, push() throws Error(Reason::cancelled).
  explicit ResizerSink(StreamingResizer& resizer, const std::atomic<bool>* stop = nullptr)
      : resizer_(resizer), stop_(stop) {}
  void push(const uint8_t* row) override {
    if (stop_ != nullptr && stop_->load(std::memory_order_relaxed)) throw Error(Reason::cancelled, "cancelled");
    resizer_.push(row);
  }

 private:
  StreamingResizer& resizer_;
  const std::atomic<bool>* stop_;
};

}  // namespace lds
