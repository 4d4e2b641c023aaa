from .body_reid import body_reidentification
from .boxes import aligned_overlaps, bounding_box, box_overlaps, non_maximum_suppression
from .compositing import composite
from .conventional import blur, fill, mean_outside, mosaic, noise, region_size
from .flow import flow_inconsistency, motion_boundaries, occlusion, stays_inside, warp
from .frechet import frechet_distance, frechet_video_distance, gaussian_frechet_distance
from .hashing import weights_sha256
from .head_pose import head_ellipse, pose_of_landmarks, poses_of_landmarks
from .identity import identity_distance, mean_pair_distance
from .intervals import jackknife_interval, resampled_interval, t_interval, wilson_interval
from .kvd import kernel_video_distance
from .masks import (
    Patch,
    box_raster,
    dilate,
    ellipse_raster,
    feather_inward,
    from_run_lengths,
    pad,
    run_lengths,
    snap_to_grid,
    tilted_ellipse_raster,
    trim,
    union,
)
from .perceptual import unmasked_lpips
from .pixels import as_unit
from .psnr import RegionErrors, halo, kept_pixels, psnr_db, region_errors, unmasked_psnr
from .reid import Retrieval, chance_of_precision, chance_of_rank, rank_gallery, reidentification
from .sharpness import gradient_length
from .smoothing import local_lines, outliers, smoothed
from .ssim import unmasked_ssim
from .warping_error import temporal_warping_error

__all__ = [
    "Patch",
    "RegionErrors",
    "Retrieval",
    "aligned_overlaps",
    "as_unit",
    "blur",
    "body_reidentification",
    "bounding_box",
    "box_overlaps",
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
    "gaussian_frechet_distance",
    "gradient_length",
    "halo",
    "head_ellipse",
    "identity_distance",
    "jackknife_interval",
    "kept_pixels",
    "kernel_video_distance",
    "local_lines",
    "mean_outside",
    "mean_pair_distance",
    "mosaic",
    "motion_boundaries",
    "noise",
    "non_maximum_suppression",
    "occlusion",
    "outliers",
    "pad",
    "pose_of_landmarks",
    "poses_of_landmarks",
    "psnr_db",
    "rank_gallery",
    "region_errors",
    "region_size",
    "reidentification",
    "resampled_interval",
    "run_lengths",
    "smoothed",
    "snap_to_grid",
    "stays_inside",
    "t_interval",
    "temporal_warping_error",
    "tilted_ellipse_raster",
    "trim",
    "union",
    "unmasked_lpips",
    "unmasked_psnr",
    "unmasked_ssim",
    "warp",
    "weights_sha256",
    "wilson_interval",
]
