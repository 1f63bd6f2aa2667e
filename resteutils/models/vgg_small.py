"""VGG-small: six 3x3 convolutions, no shortcut, 4,660,106 parameters at 32x32 RGB with ten classes."""

from __future__ import annotations

from torch import nn

from resteutils.models.common import ConvFactory, check_size, conv_relu_bn, kaiming

__all__ = ["vgg_small"]


def vgg_small(conv: ConvFactory, num_classes: int, image_size: int, in_channels: int) -> nn.Sequential:
    """128, 128, pool, 256, 256, pool, 512, 512, pool, classifier; (N, C, H, W) -> (N, classes).

    Pooling follows BatchNorm; there is no extra BatchNorm before the classifier. Convolutions start normal with
    standard deviation sqrt(2/(k k C_out)), the classifier with 0.01.
    """
    check_size(image_size, 8, "vgg_small")
    layers, cin = [], in_channels
    for index, width in enumerate((128, 128, 256, 256, 512, 512)):
        convolution = conv(cin, width) if index else nn.Conv2d(cin, width, 3, padding=1, bias=False)
        layers.append(conv_relu_bn(convolution, width))
        if index % 2:
            layers.append(nn.MaxPool2d(2))
        cin = width
    classifier = nn.Linear(512 * (image_size // 8) ** 2, num_classes)
    model = kaiming(nn.Sequential(*layers, nn.Flatten(), classifier), "fan_out")
    nn.init.normal_(classifier.weight, 0.0, 0.01)
    nn.init.zeros_(classifier.bias)
    return model
