"""Drawing with pygame, which is loaded only here and only when something is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

WIDTH, HEIGHT = 600, 400  # pixels
WHITE, BLACK, GREY, BROWN, BLUE = (255, 255, 255), (0, 0, 0), (190, 190, 190), (202, 152, 101), (129, 132, 203)
GREEN = (100, 170, 110)


def load_pygame() -> Any:
    """Import pygame.

    Raises:
        DependencyNotInstalled: if it is missing.
    """
    try:
        import pygame
        import pygame.gfxdraw
    except ImportError as error:
        raise DependencyNotInstalled('rendering needs pygame: pip install "varshare-pl[render]"') from error
    return pygame


class Screen:
    """A surface that is shown in a window (``human``) or returned as an image (``rgb_array``)."""

    def __init__(self, render_mode: str, fps: int) -> None:
        self._pygame = load_pygame()
        self._human = render_mode == "human"
        self._fps = fps
        self._canvas = self._pygame.Surface((WIDTH, HEIGHT))
        if self._human:
            self._pygame.display.init()
            self._window = self._pygame.display.set_mode((WIDTH, HEIGHT))
            self._clock = self._pygame.time.Clock()

    def show(self, draw: Callable[[Any], None]) -> NDArray[np.uint8] | None:
        """Draw a frame; return it, (H, W, 3) uint8, unless it goes to a window."""
        self._canvas.fill(WHITE)
        draw(self._canvas)
        if not self._human:
            pixels = self._pygame.image.tobytes(self._canvas, "RGB")  # row by row, several times as fast as surfarray
            return np.frombuffer(pixels, np.uint8).reshape(HEIGHT, WIDTH, 3).copy()
        self._window.blit(self._canvas, (0, 0))
        self._pygame.event.pump()
        self._clock.tick(self._fps)
        self._pygame.display.flip()
        return None

    def close(self) -> None:
        if self._human:
            self._pygame.display.quit()


def draw_pendulum(canvas: Any, *, angle: float, length: float, longest: float) -> None:
    """Draw a pole that turns about the middle, 0 rad at the top; ``longest`` (m) is the one that fills the height."""
    pygame = load_pygame()
    middle = pygame.math.Vector2(WIDTH / 2, HEIGHT / 2)
    tip = middle + 0.45 * HEIGHT * length / longest * pygame.math.Vector2(np.sin(angle), -np.cos(angle))
    pygame.draw.line(canvas, BROWN, middle, tip, 12)
    pygame.draw.circle(canvas, BROWN, tip, 6)
    pygame.draw.circle(canvas, BLUE, middle, 8)


def draw_cartpole(canvas: Any, *, x: float, angle: float, half_length: float, x_limit: float, widest: float) -> None:
    """Draw cart, pole and the limits of the track, to scale; ``widest`` (m) is the limit that fills the width."""
    pygame = load_pygame()
    scale = WIDTH / (2 * widest)
    track, middle = 300, WIDTH / 2
    cart_x = middle + scale * x
    pygame.draw.line(canvas, BLACK, (0, track), (WIDTH, track))
    for side in (-x_limit, x_limit):
        pygame.draw.line(canvas, GREY, (middle + scale * side, track - 60), (middle + scale * side, track + 20), 3)
    pygame.draw.rect(canvas, BLACK, pygame.Rect(cart_x - 25, track - 15, 50, 30))
    along = pygame.math.Vector2(np.sin(angle), -np.cos(angle))
    across = 5 * pygame.math.Vector2(-along.y, along.x)
    foot = pygame.math.Vector2(cart_x, track - 8)
    tip = foot + 2 * half_length * scale * along
    corners = [foot - across, foot + across, tip + across, tip - across]
    pygame.gfxdraw.aapolygon(canvas, corners, BROWN)
    pygame.gfxdraw.filled_polygon(canvas, corners, BROWN)
    pygame.draw.circle(canvas, BLUE, foot, 5)


def draw_disc(canvas: Any, x: float, y: float, radius: float, color: tuple[int, int, int], half_width: float) -> None:
    """Draw a disc in a plane whose origin is in the middle and whose x reaches from −half_width to half_width."""
    pygame = load_pygame()
    scale = WIDTH / (2 * half_width)
    place = round(WIDTH / 2 + scale * x), round(HEIGHT / 2 - scale * y)
    pygame.draw.circle(canvas, color, place, max(round(scale * radius), 2))


def draw_mountain_car(canvas: Any, position: float, leftmost: float, goal: float, rightmost: float) -> None:
    """Draw the valley sin 3x from leftmost to rightmost, the goal's flag, and the car."""
    pygame = load_pygame()
    scale = WIDTH / (rightmost - leftmost)

    def place(x: float) -> tuple[float, float]:
        return scale * (x - leftmost), HEIGHT - scale * (0.45 * np.sin(3 * x) + 0.6)

    pygame.draw.aalines(canvas, BLACK, False, [place(x) for x in np.linspace(leftmost, rightmost, 100)])
    foot_x, foot_y = place(goal)
    pygame.draw.line(canvas, GREEN, (foot_x, foot_y), (foot_x, foot_y - 50), 4)
    car_x, car_y = place(position)
    pygame.draw.circle(canvas, BLUE, (round(car_x), round(car_y) - 10), 12)
