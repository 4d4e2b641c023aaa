"""Pure tensor functions: no state, no modules, no files."""

from pa_lib.functional.body_reid import body_reidentification
from pa_lib.functional.composite import composite
from pa_lib.functional.conventional import blur, fill, mean_outside, mosaic, noise, region_size
from pa_lib.functional.flow import flow_inconsistency, motion_boundaries, occlusion, stays_inside, warp
from pa_lib.functional.fvd import frechet_distance, frechet_video_distance
from pa_lib.functional.identity import identity_distance, mean_pair_distance
from pa_lib.functional.kvd import kernel_video_distance
from pa_lib.functional.masks import (
    Patch,
    box_raster,
    dilate,
    ellipse_raster,
    feather_inward,
    from_run_lengths,
    pad,
    run_lengths,
    snap_to_grid,
    trim,
    union,
)
from pa_lib.functional.perceptual import unmasked_lpips
from pa_lib.functional.pixels import as_unit
from pa_lib.functional.psnr import RegionErrors, halo, kept_pixels, psnr_db, region_errors, unmasked_psnr
from pa_lib.functional.reid import (
    Retrieval,
    chance_of_precision,
    chance_of_rank,
    rank_gallery,
    reidentification,
    wilson_interval,
)
from pa_lib.functional.sharpness import gradient_length
from pa_lib.functional.ssim import unmasked_ssim
from pa_lib.functional.warping_error import temporal_warping_error

__all__ = [
    "Patch",
    "RegionErrors",
    "Retrieval",
    "as_unit",
    "blur",
    "body_reidentification",
    "box_raster",
    "chance_of_precision",
    "chance_of_rank",
    "composite",
    "dilate",
    "ellipse_raster",
    "feather_inward",
    "fill",
    "flow_inconsistency",
    "frechet_distance",
    "frechet_video_distance",
    "from_run_lengths",
    "gradient_length",
    "halo",
    "identity_distance",
    "kept_pixels",
    "kernel_video_distance",
    "mean_outside",
    "mean_pair_distance",
    "mosaic",
    "motion_boundaries",
    "noise",
    "occlusion",
    "pad",
    "psnr_db",
    "rank_gallery",
    "region_errors",
    "region_size",
    "reidentification",
    "run_lengths",
    "snap_to_grid",
    "stays_inside",
    "temporal_warping_error",
    "trim",
    "union",
    "unmasked_lpips",
    "unmasked_psnr",
    "unmasked_ssim",
    "warp",
    "wilson_interval",
]
