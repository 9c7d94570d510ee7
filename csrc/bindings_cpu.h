// What the files of the CPU bindings share.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <new>

#include "bindings.h"
#include "common/levels.h"

inline void require(bool had_memory) {
  if (!had_memory) throw std::bad_alloc();
}

// Adds the functions of the layers, the ops with parameters.
void bind_layers(pybind11::module_& module);
