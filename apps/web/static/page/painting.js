// Marking a part of the picture with a finger, in cells of the token grid.

const REACH = 2.2; // cells around the finger

export class Painting {
  /** @param {HTMLCanvasElement} canvas lies over the picture */
  constructor(canvas) {
    this.canvas = canvas;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.last = this.place(event);
      this.mark(this.last);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && this.stroke(this.place(event)));
  }

  /** Begin with nothing marked, on a grid of `grid` x `grid` cells. */
  open(grid) {
    this.grid = grid;
    this.cells = Array(grid * grid).fill(false);
    const side = Math.round(this.canvas.getBoundingClientRect().width * devicePixelRatio) || 512;
    Object.assign(this.canvas, { width: side, height: side, hidden: false });
    this.draw();
  }

  close() {
    this.canvas.hidden = true;
  }

  get empty() {
    return !this.cells?.includes(true);
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top].map((distance) => (distance / box.width) * this.grid);
  }

  /** Mark everything between the last place and this one. */
  stroke(to) {
    const from = this.last;
    const parts = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])));
    for (let i = 1; i <= parts; i++) this.mark(from.map((start, axis) => start + ((to[axis] - start) * i) / parts));
    this.last = to;
  }

  mark([x, y]) {
    const clipped = (value) => Math.max(0, Math.min(this.grid - 1, Math.floor(value)));
    for (let row = clipped(y - REACH); row <= clipped(y + REACH); row++) {
      for (let column = clipped(x - REACH); column <= clipped(x + REACH); column++) {
        const near = Math.hypot(column + 0.5 - x, row + 0.5 - y) <= REACH;
        if (near) this.cells[row * this.grid + column] = true;
      }
    }
    this.draw();
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const cell = this.canvas.width / this.grid;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.fillStyle = "rgba(43, 106, 92, .65)";
    this.cells.forEach((marked, i) => {
      const [x, y] = [i % this.grid, Math.floor(i / this.grid)];
      if (marked) context.fillRect(Math.floor(x * cell), Math.floor(y * cell), Math.ceil(cell), Math.ceil(cell));
    });
  }
}
