// The GPU's kernels as tables like those of the levels. Every run is made twice, with blocks and threads in rising and
// in falling order, and must have the same bits.
#pragma once

#include "chamfer/chamfer.h"
#include "edge_conv/edge_conv.h"
#include "farthest_points/farthest_points.h"
#include "knn/knn.h"
#include "sample_clips/sample_clips.h"

extern const skelkern::Chamfer emulated_chamfer;
extern const skelkern::EdgeConv emulated_edge_conv;
extern const skelkern::FarthestPoints emulated_farthest_points;
extern const skelkern::Knn emulated_knn;
extern const skelkern::SampleClips emulated_sample_clips;
