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
from .conditioners.base import AbstractConditioner, Scene
from .conditioners.mask_and_background import MaskAndBackground
from .conditioners.prompt import Prompt
from .conditioners.reference import ReferencePicture
from .crops.aligner import CropAligner, CropGeometry, Crops, Reintegrator
from .crops.mask_augmentation import MaskAugmentation
from .diffusion.base import AbstractNoiseProcess
from .diffusion.flow_matching import FlowMatching
from .diffusion.sampler import Sampler
from .diffusion.solvers import AbstractSolver, DdimSolver, DpmSolver, FlowEulerSolver, LcmSolver
from .diffusion.variance_preserving import DiffusionProcess, VariancePreserving
from .guidance.base import AbstractGuidance, PreparedGuidance, SamplingStart
from .guidance.classifier_free import ClassifierFreeGuidance
from .guidance.identity import IdentityGuidance
from .guidance.mean import MeanGuidance
from .inpainting.inpainter import Denoised, LatentInpainter
from .inpainting.request import InpaintingRequest
from .inpainting.settings import Windows
from .losses.base import AbstractDiffusionLoss
from .losses.masked_diffusion import MaskedDiffusionLoss
from .losses.plain_diffusion import PlainDiffusionLoss
from .non_interference import interference
from .optimization import MakeOptimizer, MakeSchedule, OptimizerSpec, Training
from .outline.training import OutlineTraining
from .reference.base import AbstractPlaced, AbstractReference, NoReference, PersonInCrops, Relit
from .reference.closed_form import ClosedFormLight
from .reference.doubles import Casting, DoublesReference
from .reference.light import AbstractLight, HeadPlaces, LightScene, NoLight
from .reference.light_transform import LightTransform
from .schedules import CosineSchedule
from .slot import Origin, Recorded, Slot
from .systems.base import AbstractAnonymizer
from .systems.conventional.system import ConventionalAnonymizer
from .systems.cropwise import CropwiseAnonymizer
from .systems.doubles.system import DoublesAnonymizer
from .systems.learned import AbstractLearned, AbstractLearnedAnonymizer
from .systems.passersby.embedded import embedded_passersby
from .systems.passersby.settings import MaskAwareTraining
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
    "AbstractConditioner",
    "AbstractDiffusionLoss",
    "AbstractGuidance",
    "AbstractLearned",
    "AbstractLearnedAnonymizer",
    "AbstractLight",
    "AbstractNoiseProcess",
    "AbstractPlaced",
    "AbstractReference",
    "AbstractSolver",
    "AbstractTemporal",
    "AbstractText",
    "Anonymized",
    "AttackResult",
    "BottleneckContentAdapter",
    "Casting",
    "ClassifierFreeGuidance",
    "ClipText",
    "ClosedFormLight",
    "CompactUNet",
    "ConventionalAnonymizer",
    "CosineSchedule",
    "CropAligner",
    "CropGeometry",
    "Crops",
    "CropwiseAnonymizer",
    "DdimSolver",
    "Denoised",
    "DiffusersUNet",
    "DiffusionProcess",
    "DoublesAnonymizer",
    "DoublesReference",
    "DpmSolver",
    "FlowEulerSolver",
    "FlowMatching",
    "ForwardContext",
    "HeadPlaces",
    "Hook",
    "IdentityGuidance",
    "InpaintingRequest",
    "KLAutoencoder",
    "LatentInpainter",
    "LcmSolver",
    "LightScene",
    "LightTransform",
    "MakeOptimizer",
    "MakeSchedule",
    "MaskAndBackground",
    "MaskAugmentation",
    "MaskAwareTraining",
    "MaskedDiffusionLoss",
    "MeanGuidance",
    "NoAdapter",
    "NoLight",
    "NoReference",
    "NoTemporal",
    "NoText",
    "OptimizerSpec",
    "Origin",
    "OutlineTraining",
    "ParrotAttack",
    "PassersbyAnonymizer",
    "Patchify",
    "PersonInCrops",
    "Photos",
    "PlainDiffusionLoss",
    "PreparedGuidance",
    "Prompt",
    "Recorded",
    "ReferencePicture",
    "Reintegrator",
    "Relit",
    "Residuals",
    "ReversalAttack",
    "RunningContext",
    "Sampler",
    "SamplingStart",
    "Scene",
    "Site",
    "Slot",
    "SpatialContentAdapter",
    "TemporalContentStabilizer",
    "TextCondition",
    "TinyAutoencoder",
    "Training",
    "VariancePreserving",
    "Windows",
    "embedded_passersby",
    "interference",
]
