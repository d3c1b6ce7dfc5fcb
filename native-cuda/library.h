// Libraries that are opened at run time where they are installed.
#pragma once
#include <dlfcn.h>

#include <initializer_list>
#include <type_traits>

// Opens the first of `names` that is there and fills `table` by `load(field, "function")` for each function that is used.
// True when there is a library and it has all of them.
template <class Table, class Fill> bool openLibrary(std::initializer_list<const char *> names, Table &table, Fill fill) {
  void *file = nullptr;
  for (const char *name : names) {
    if ((file = dlopen(name, RTLD_NOW | RTLD_LOCAL))) break;
  }
  bool whole = file != nullptr;
  auto load = [&](auto &function, const char *name) {
    if (file) function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(file, name));
    whole = whole && function;
  };
  fill(table, load);
  return whole;
}
