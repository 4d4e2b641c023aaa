from .adapters.base import AbstractAdapter, Hook
from .adapters.bottleneck import BottleneckContentAdapter
from .adapters.none import NoAdapter
from .adapters.spatial_content import SpatialContentAdapter
from .attackers.base import AbstractAttack, Anonymized, AttackResult, Photos
from .attackers.parrot import ParrotAttack
from .attackers.reversal import ReversalAttack
from .autoencoders.base import AbstractAutoencoder
from .autoencoders.kl import KLAutoencoder
from .autoencoders.patchify import Patchify
from .autoencoders.tiny import TinyAutoencoder
from .backbones.base import AbstractBackbone, Site
from .backbones.compact import CompactUNet
from .backbones.context import ForwardContext, Residuals, RunningContext, TextCondition
from .backbones.diffusers_unet import DiffusersUNet
from .crops.aligner import CropAligner, CropGeometry, Crops, Reintegrator
from .crops.mask_augmentation import MaskAugmentation
from .diffusion.process import DiffusionProcess
from .diffusion.sampler import Sampler
from .guidance.identity import IdentityPush
from .losses.masked_diffusion import MaskedDiffusionLoss
from .losses.plain_diffusion import PlainDiffusionLoss
from .non_interference import interference
from .optimization import MakeOptimizer, MakeSchedule, OptimizerSpec, Training
from .slot import Origin, Recorded, Slot
from .systems.base import AbstractAnonymizer
from .systems.conventional.system import ConventionalAnonymizer
from .systems.learned import AbstractLearnedAnonymizer
from .systems.passersby.embedded import embedded_passersby
from .systems.passersby.settings import MaskAwareTraining, Windows
from .systems.passersby.system import PassersbyAnonymizer
from .temporal.base import AbstractTemporal
from .temporal.content_stabilizer import TemporalContentStabilizer
from .temporal.none import NoTemporal
from .text.base import AbstractText
from .text.clip import ClipText
from .text.none import NoText

__all__ = [
    "AbstractAdapter",
    "AbstractAnonymizer",
    "AbstractAttack",
    "AbstractAutoencoder",
    "AbstractBackbone",
    "AbstractLearnedAnonymizer",
    "AbstractTemporal",
    "AbstractText",
    "Anonymized",
    "AttackResult",
    "BottleneckContentAdapter",
    "ClipText",
    "CompactUNet",
    "ConventionalAnonymizer",
    "CropAligner",
    "CropGeometry",
    "Crops",
    "DiffusersUNet",
    "DiffusionProcess",
    "ForwardContext",
    "Hook",
    "IdentityPush",
    "KLAutoencoder",
    "MakeOptimizer",
    "MakeSchedule",
    "MaskAugmentation",
    "MaskAwareTraining",
    "MaskedDiffusionLoss",
    "NoAdapter",
    "NoTemporal",
    "NoText",
    "OptimizerSpec",
    "Origin",
    "ParrotAttack",
    "PassersbyAnonymizer",
    "Patchify",
    "Photos",
    "PlainDiffusionLoss",
    "Recorded",
    "Reintegrator",
    "Residuals",
    "ReversalAttack",
    "RunningContext",
    "Sampler",
    "Site",
    "Slot",
    "SpatialContentAdapter",
    "TemporalContentStabilizer",
    "TextCondition",
    "TinyAutoencoder",
    "Training",
    "Windows",
    "embedded_passersby",
    "interference",
]
