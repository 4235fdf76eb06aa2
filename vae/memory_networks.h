// SPDX-License-Identifier: Apache-2.0
// Internal: the ledgers of the networks, one function per architecture, for Codec::book_step().
#pragma once

#include "vae/cogvideox_vae.h"
#include "vae/memory_ledger.h"
#include "vae/open_sora_vae.h"
#include "vae/sd_vae.h"
#include "vae/vid_vae.h"
#include "vae/wan_vae.h"

namespace kinema::vae {

/// Books one step of a clip. @param input  pixels or latents of the step, owned by the caller.
/// @param is_first  the step starts its clip.  @return the moments or pixels.
[[nodiscard]] Live book_network(const SdVaeConfig& config,
                                Ledger& ledger,
                                Direction direction,
                                const Live& input);
[[nodiscard]] Live book_network(const VidVaeConfig& config,
                                Ledger& ledger,
                                Direction direction,
                                const Live& input,
                                bool is_first);
[[nodiscard]] Live book_network(const CogVideoXVaeConfig& config,
                                Ledger& ledger,
                                Direction direction,
                                const Live& input);
[[nodiscard]] Live book_network(const WanVaeConfig& config,
                                Ledger& ledger,
                                Direction direction,
                                const Live& input,
                                bool is_first);
[[nodiscard]] Live book_network(const OpenSoraVaeConfig& config,
                                Ledger& ledger,
                                Direction direction,
                                const Live& input);

}  // namespace kinema::vae
