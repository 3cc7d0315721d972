// Two pictures over each other with a divider; wheel zooms about the pointer, dragging moves.
class Viewer {
  constructor(changed) {
    this.stage = document.getElementById("stage");
    this.world = document.getElementById("world");
    this.over = document.getElementById("over");
    this.under = document.getElementById("under");
    this.divider = document.getElementById("divider");
    this.changed = changed;
    this.share = 0.5; // where the divider stands, of the stage's width
    this.view = null; // {scale, x, y}; null is the whole picture
    this.size = [1, 1];
    this.stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = this.stage.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    this.drag(this.divider, (event) => {
      const box = this.stage.getBoundingClientRect();
      this.share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      this.place();
    });
    this.drag(this.stage, (event) => {
      const view = this.current();
      this.view = { ...view, x: view.x + event.movementX, y: view.y + event.movementY };
      this.place();
    });
    this.stage.addEventListener("dblclick", () => this.fit());
    new ResizeObserver(() => requestAnimationFrame(() => this.place())).observe(this.stage);
  }

  drag(element, move) {
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      event.stopPropagation();
      element.setPointerCapture(event.pointerId);
      element.classList.add("moving");
      const stop = () => {
        element.classList.remove("moving");
        element.removeEventListener("pointermove", move);
      };
      element.addEventListener("pointermove", move);
      element.addEventListener("pointerup", stop, { once: true });
      element.addEventListener("pointercancel", stop, { once: true });
    });
  }

  // The left picture gives the size; the other one is stretched over it, as a drawing may be smaller than its frame.
  show(left, right) {
    const asked = this.asked = {};
    const ready = () => {
      if (this.asked !== asked || !this.over.naturalWidth) return;
      const size = [this.over.naturalWidth, this.over.naturalHeight];
      if (size.join() !== this.size.join()) this.view = null;
      this.size = size;
      this.place();
    };
    this.over.onload = ready;
    if (this.under.getAttribute("src") !== right) this.under.src = right;
    if (this.over.getAttribute("src") !== left) this.over.src = left;
    else ready();
  }

  whole() {
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
    const scale = Math.min(width / this.size[0], height / this.size[1]);
    return { scale, x: (width - scale * this.size[0]) / 2, y: (height - scale * this.size[1]) / 2 };
  }

  current() { return this.view ?? this.whole(); }

  fit() { this.view = null; this.place(); }

  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const view = this.current();
    const scale = Math.min(40, Math.max(0.05, view.scale * factor));
    const by = scale / view.scale;
    this.view = { scale, x: x - by * (x - view.x), y: y - by * (y - view.y) };
    this.place();
  }

  // Shows the box xyxy of the left picture as large as it gets.
  zoomTo([x0, y0, x1, y1]) {
    const [width, height] = [this.stage.clientWidth, this.stage.clientHeight];
    const scale = Math.min(width / (x1 - x0), height / (y1 - y0));
    this.view = { scale, x: width / 2 - scale * (x0 + x1) / 2, y: height / 2 - scale * (y0 + y1) / 2 };
    this.place();
  }

  scaleTo(scale) { this.zoom(scale / this.current().scale); }

  place() {
    const { scale, x, y } = this.current();
    const width = this.stage.clientWidth, at = this.share * width;
    this.world.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.world.classList.toggle("pixels", scale > 2.5);
    for (const image of [this.over, this.under]) {
      image.style.width = `${this.size[0]}px`;
      image.style.height = `${this.size[1]}px`;
    }
    const cut = Math.min(this.size[0], Math.max(0, (at - x) / scale));
    this.over.style.clipPath = `inset(0 ${this.size[0] - cut}px 0 0)`;
    this.under.style.clipPath = `inset(0 0 0 ${cut}px)`;
    this.divider.style.left = `${at}px`;
    this.changed(scale);
  }
}
