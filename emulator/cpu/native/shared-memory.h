// Page-aligned memory that JavaScript sees as an ArrayBuffer and several engines map: reserved at once, committed by use.
#ifndef CARETAKER_SHARED_MEMORY_H
#define CARETAKER_SHARED_MEMORY_H

#include <cstddef>
#include <cstdint>
#include <memory>

namespace caretaker {

constexpr uint64_t kPageSize = 4096;
constexpr uint64_t kPageMask = kPageSize - 1;

class SharedMemory {
 public:
  // Throws std::bad_alloc when the address space cannot be had.
  explicit SharedMemory(size_t size);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  uint8_t* bytes() const { return bytes_; }
  size_t size() const { return size_; }

 private:
  uint8_t* bytes_;
  size_t size_;
};

}  // namespace caretaker

#endif
