#include "shared-memory.h"

#include <sys/mman.h>

#include <new>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

namespace caretaker {

SharedMemory::SharedMemory(size_t size) : size_(size) {
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  bytes_ = static_cast<uint8_t*>(at);
}

SharedMemory::~SharedMemory() { munmap(bytes_, size_); }

}  // namespace caretaker
