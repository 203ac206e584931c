// Appends the rows of several threads to a file in the order of their items.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace lds {

class OrderedAppender {
 public:
  // Item 0 begins at `offset` of the file. Without a file (-1), rows are only counted. The caller owns the descriptor.
  OrderedAppender(int descriptor, int64_t offset) : descriptor_(descriptor), offset_(offset) {}

  // Takes the bytes of items [begin, end), and leaves an empty buffer. They are written as soon as all items before
  // them are: by this thread, or by one that is writing already. Where too many bytes wait for an earlier item, this
  // call waits, too, unless these bytes are the next ones. Error(Reason::io) if this thread can't write.
  void put(int64_t begin, int64_t end, std::vector<uint8_t>& bytes);

  // After it, put() does nothing, and returns at once: some item before will not come.
  void stop() noexcept;

 private:
  struct Piece {
    int64_t end = 0;
    std::vector<uint8_t> bytes;
  };
  void write_ready(std::unique_lock<std::mutex>& lock);
  void write(const std::vector<uint8_t>& bytes);

  const int descriptor_;
  int64_t offset_;  // used by the thread that writes
  std::mutex mutex_;
  std::condition_variable moved_;
  std::map<int64_t, Piece> waiting_;  // by the first item
  std::vector<std::vector<uint8_t>> spare_;
  int64_t waiting_bytes_ = 0;
  int64_t next_ = 0;  // the first item that is not written
  bool writing_ = false, stopped_ = false;
};

}  // namespace lds
