#include "cosine_topk/cosine_topk.h"
#include "native.h"

void check_retrieval() {
  for (const std::int64_t n : {133, 2200})  // the larger one is filtered where the processor can
    for (const std::int64_t d : {1, 151}) {
      const std::int64_t q = 50, k = 20;
      auto queries = random_floats(q * d), database = random_floats(n * d);
      at_every_level<skelkern::CosineTopk>(
          "cosine_topk", LEVELS_OF(cosine_topk), [&](const auto& table, Results& results) {
            Array<float> similarities(q * k);
            Array<std::int64_t> indices(q * k);
            require(table.run({queries.get(), database.get(), q, n, d, k, kThreads}, similarities.get(), indices.get()),
                    "memory");
            results.add(similarities);
          });
    }
}
