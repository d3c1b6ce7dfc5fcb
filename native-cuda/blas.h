// Matrix products by cuBLASLt, opened at run time where it is present: a backend of the GEMM registry and a peer to
// measure against.
#pragma once
#include <cuda.h>

#include <cstdint>
#include <memory>

struct ProductShape {
  uint64_t a, w, out;
  int64_t m, n, k, ldc;
  int inType, outType;  // ELEMENT of native.ts
  bool add;
};

class Product {
 public:
  explicit Product(const ProductShape &shape);  // throws std::runtime_error when cuBLASLt cannot do it
  ~Product();
  Product(const Product &) = delete;
  void enqueue(CUstream stream) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Version of the library, or 0 when there is none.
size_t blasVersion();
