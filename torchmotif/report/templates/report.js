"use strict";
(() => {
  const $ = (name) => document.getElementById(name);
  const data = JSON.parse($("data").textContent);
  const root = document.documentElement;
  const unpack = (text, Type) =>
    new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const xy = unpack(data.xy, Float32Array);
  const group = unpack(data.group, Int16Array);
  const probability = unpack(data.probability, Uint8Array);
  const brightness = unpack(data.brightness, Float32Array);
  const site = unpack(data.site, Int16Array);
  const tall = data.pixel_nm ? data.pixel_nm[0] / data.pixel_nm[1] : 1;
  const groups = new Map(data.groups.map((g) => [g.number, { ...g, shown: true, columns: [] }]));
  for (let i = 0; i < group.length; i++) groups.get(group[i]).columns.push(i);
  const names = data.names && { kinds: data.names.kinds, of: unpack(data.names.of, Int16Array), probability: unpack(data.names.probability, Uint8Array), other: unpack(data.names.other, Int16Array) };
  const layers = data.layers.map((one) => ({
    ...one, values: unpack(one.values, Float32Array), errors: unpack(one.errors, Float32Array), clear: unpack(one.clear, Uint8Array),
  }));
  const grainColours = ["#E69F00", "#56B4E9", "#D55E00", "#009E73", "#F0E442", "#CC79A7", "#0072B2"];
  let layer = null, clearOnly = false;
  let markSize = 1;
  let selected = -1;

  /* A mark of a matplotlib marker, added to the path. */
  function mark(pen, marker, x, y, r) {
    const box = r * 0.86;
    if (marker === "s") pen.rect(x - box, y - box, 2 * box, 2 * box);
    else if (marker === "D" || marker === "^" || marker === "v") {
      const corners = { D: [0, -1.15, 1.15, 0, 0, 1.15, -1.15, 0], "^": [0, -1.1, 1.1, 0.9, -1.1, 0.9], v: [0, 1.1, 1.1, -0.9, -1.1, -0.9] }[marker];
      pen.moveTo(x + corners[0] * r, y + corners[1] * r);
      for (let k = 2; k < corners.length; k += 2) pen.lineTo(x + corners[k] * r, y + corners[k + 1] * r);
      pen.closePath();
    } else if (marker === "P" || marker === "X") {
      const turn = marker === "X" ? Math.SQRT1_2 : 1, lean = marker === "X" ? Math.SQRT1_2 : 0;
      const outline = [-0.4, -1, 0.4, -1, 0.4, -0.4, 1, -0.4, 1, 0.4, 0.4, 0.4, 0.4, 1, -0.4, 1, -0.4, 0.4, -1, 0.4, -1, -0.4, -0.4, -0.4];
      for (let k = 0; k < outline.length; k += 2) {
        const px = x + r * (outline[k] * turn - outline[k + 1] * lean), py = y + r * (outline[k] * lean + outline[k + 1] * turn);
        if (k) pen.lineTo(px, py); else pen.moveTo(px, py);
      }
      pen.closePath();
    } else {
      const size = marker === "." ? 0.6 * r : r;
      pen.moveTo(x + size, y);
      pen.arc(x, y, size, 0, 2 * Math.PI);
    }
  }

  /* Points that can be zoomed and moved, over a picture or over nothing. */
  class View {
    constructor(name, { points, columns, box, spacing, outline, pale, draw }) {
      Object.assign(this, { points, columns, box, spacing, outline, pale, background: draw }); // pale: how what is switched off still shows
      this.canvas = $(name);
      this.pen = this.canvas.getContext("2d");
      this.tip = this.canvas.parentElement.querySelector(".tip");
      this.place = new Map();
      columns.forEach((column, k) => this.place.set(column, k));
      this.index();
      this.fit();
      this.listen();
      new ResizeObserver(() => this.resize()).observe(this.canvas.parentElement);
    }
    /* A grid over the points, its cells as wide as they are apart. */
    index() {
      const [left, top, right, bottom] = this.box;
      this.cell = Math.max(this.spacing, Math.sqrt(((right - left) * (bottom - top)) / (4 * this.columns.length + 1)));
      this.across = Math.ceil((right - left) / this.cell) + 1;
      this.grid = new Map();
      for (let k = 0; k < this.columns.length; k++) {
        const key = this.key(this.points[2 * k], this.points[2 * k + 1]);
        if (this.grid.has(key)) this.grid.get(key).push(k); else this.grid.set(key, [k]);
      }
    }
    key(x, y) {
      return Math.floor((y - this.box[1]) / this.cell) * this.across + Math.floor((x - this.box[0]) / this.cell);
    }
    nearest(x, y, reach) {
      let best = -1, least = reach * reach;
      const steps = Math.min(Math.ceil(reach / this.cell), 40);
      for (let row = -steps; row <= steps; row++) for (let step = -steps; step <= steps; step++) {
        for (const k of this.grid.get(this.key(x + step * this.cell, y + row * this.cell)) || []) {
          const distance = (this.points[2 * k] - x) ** 2 + (this.points[2 * k + 1] - y) ** 2;
          if (distance < least && groups.get(group[this.columns[k]]).shown) { least = distance; best = k; }
        }
      }
      return best;
    }
    get width() { return this.canvas.clientWidth; }
    get height() { return this.canvas.clientHeight; }
    get whole() {
      const [left, top, right, bottom] = this.box;
      return Math.min(this.width / (right - left), this.height / (bottom - top)) || 1;
    }
    fit() {
      const [left, top, right, bottom] = this.box;
      this.centre = [(left + right) / 2, (top + bottom) / 2];
      this.scale = this.whole;
      this.fitted = true;
      this.changed();
    }
    resize() {
      if (this.fitted) this.fit(); else this.changed();
    }
    toScreen(k) {
      return [(this.points[2 * k] - this.centre[0]) * this.scale + this.width / 2, (this.points[2 * k + 1] - this.centre[1]) * this.scale + this.height / 2];
    }
    toWorld(x, y) {
      return [(x - this.width / 2) / this.scale + this.centre[0], (y - this.height / 2) / this.scale + this.centre[1]];
    }
    zoom(factor, x = this.width / 2, y = this.height / 2) {
      const [wx, wy] = this.toWorld(x, y);
      const scale = Math.min(Math.max(this.scale * factor, this.whole), 400 * this.whole);
      if (scale <= this.whole * 1.0001) return this.fit();
      this.scale = scale;
      this.fitted = false;
      this.centre = [wx - (x - this.width / 2) / scale, wy - (y - this.height / 2) / scale];
      this.keepInside();
    }
    move(dx, dy) {
      if (this.fitted) return;
      this.centre = [this.centre[0] - dx / this.scale, this.centre[1] - dy / this.scale];
      this.keepInside();
    }
    keepInside() {
      const [left, top, right, bottom] = this.box;
      this.centre = [Math.min(Math.max(this.centre[0], left), right), Math.min(Math.max(this.centre[1], top), bottom)];
      this.changed();
    }
    show(k) {
      this.scale = Math.max(this.scale, this.width / (12 * this.spacing));
      this.fitted = false;
      this.centre = [this.points[2 * k], this.points[2 * k + 1]];
      this.keepInside();
    }
    changed() {
      this.canvas.style.touchAction = this.fitted ? "pan-y" : "none";
      if (this.waiting) return;
      this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.draw(); });
    }
    get radius() { return Math.max(1.2, Math.min(0.27 * this.spacing * this.scale, 16) * markSize); }
    draw() {
      const ratio = window.devicePixelRatio || 1, { pen, canvas } = this;
      if (!this.width || !this.height) return;
      if (canvas.width !== Math.round(this.width * ratio) || canvas.height !== Math.round(this.height * ratio)) {
        canvas.width = Math.round(this.width * ratio);
        canvas.height = Math.round(this.height * ratio);
      }
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, this.width, this.height);
      this.background(this, pen);
      for (const one of groups.values()) {
        if (!one.shown && !this.pale) continue;
        pen.globalAlpha = one.shown ? 1 : this.pale;
        this.drawGroup(one);
      }
      pen.globalAlpha = 1;
      const k = this.place.get(selected);
      if (k !== undefined) {
        const [x, y] = this.toScreen(k);
        for (const [colour, width] of [["#000", 5], ["#fff", 2.5]]) {
          pen.strokeStyle = colour; pen.lineWidth = width;
          pen.beginPath(); pen.arc(x, y, this.radius + 6, 0, 2 * Math.PI); pen.stroke();
        }
      }
    }
    drawGroup(one) {
      const { pen, radius: r } = this, open = r > 7, inView = [];
      pen.beginPath();
      for (const column of one.columns) {
        const k = this.place.get(column);
        if (k === undefined) continue;
        const [x, y] = this.toScreen(k);
        if (x < -r || y < -r || x > this.width + r || y > this.height + r) continue;
        mark(pen, one.marker, x, y, r);
        if (open) inView.push([x, y]);
      }
      pen.lineJoin = "round";
      if (open) {
        pen.strokeStyle = "#000"; pen.lineWidth = 5; pen.stroke();
        pen.strokeStyle = one.colour; pen.lineWidth = 3; pen.stroke();
      } else {
        // The rim goes under the colour, so that crowded marks do not turn black.
        pen.strokeStyle = `rgba(0,0,0,${this.outline})`; pen.lineWidth = Math.min(2, 0.4 * r + 0.3); pen.stroke();
        pen.fillStyle = one.colour; pen.fill();
      }
      if (!open || one.number < 0 || inView.length > 900) return;
      pen.font = "600 12px system-ui, sans-serif";
      pen.textAlign = "left"; pen.textBaseline = "bottom";
      pen.strokeStyle = "#000"; pen.lineWidth = 3; pen.fillStyle = "#fff";
      for (const [x, y] of inView) {
        pen.strokeText(one.number, x + 0.75 * r + 2, y - 0.75 * r);
        pen.fillText(one.number, x + 0.75 * r + 2, y - 0.75 * r);
      }
    }
    point(x, y, anyway) {
      const [wx, wy] = this.toWorld(x, y);
      const k = this.nearest(wx, wy, anyway ? this.spacing : Math.max(0.5 * this.spacing, 6 / this.scale));
      select(k < 0 ? -1 : this.columns[k]);
      if (k < 0) return this.hideTip();
      const [sx, sy] = this.toScreen(k);
      this.tip.textContent = describe(this.columns[k]);
      this.tip.hidden = false;
      const w = this.tip.offsetWidth, h = this.tip.offsetHeight, gap = this.radius + 12;
      this.tip.style.left = `${Math.max(4, Math.min(sx + gap + w < this.width ? sx + gap : sx - gap - w, this.width - w - 4))}px`;
      this.tip.style.top = `${Math.max(4, Math.min(sy - h / 2, this.height - h - 4))}px`;
    }
    hideTip() { this.tip.hidden = true; }
    listen() {
      const { canvas } = this, fingers = new Map();
      const at = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
      canvas.addEventListener("wheel", (event) => {
        if (this.fitted && event.deltaY > 0) return; // the page scrolls on
        event.preventDefault();
        this.zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * (event.deltaMode ? 30 : 1))) * 0.003), ...at(event));
      }, { passive: false });
      canvas.addEventListener("pointerdown", (event) => { fingers.set(event.pointerId, at(event)); this.down = at(event); this.dragged = 0; canvas.setPointerCapture(event.pointerId); });
      canvas.addEventListener("pointermove", (event) => {
        const now = at(event), before = fingers.get(event.pointerId);
        if (!before) return this.point(...now);
        const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
        this.move(now[0] - before[0], now[1] - before[1]);
        if (others.length === 1) {
          const far = (p) => Math.hypot(p[0] - others[0][0], p[1] - others[0][1]) || 1;
          this.zoom(far(now) / far(before), ...others[0]);
        }
        fingers.set(event.pointerId, now);
        this.dragged = Math.max(this.dragged, Math.hypot(now[0] - this.down[0], now[1] - this.down[1]));
        this.hideTip();
      });
      for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => {
        const tapped = fingers.delete(event.pointerId) && event.pointerType === "touch";
        if (name !== "pointerup") return;
        if (tapped) this.point(...at(event), true);
        if (this.dragged < 4 && this.chosen) { this.point(...at(event), true); this.chosen(selected); }
      });
      canvas.addEventListener("pointerleave", () => { this.hideTip(); select(-1); });
      canvas.addEventListener("blur", () => this.hideTip());
      canvas.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const step = 0.1 * Math.min(this.width, this.height);
        const act = {
          ArrowLeft: () => this.move(step, 0), ArrowRight: () => this.move(-step, 0), ArrowUp: () => this.move(0, step), ArrowDown: () => this.move(0, -step),
          Enter: () => {}, "+": () => this.zoom(1.4), "=": () => this.zoom(1.4), "-": () => this.zoom(1 / 1.4), 0: () => this.fit(), Escape: () => this.hideTip(),
        }[event.key];
        if (!act || (this.fitted && event.key.startsWith("Arrow"))) return;
        event.preventDefault();
        act();
        if (event.key === "Escape" || (this.fitted && event.key !== "Enter")) { select(-1); return this.hideTip(); }
        this.point(this.width / 2, this.height / 2, true);
        say(selected);
        if (event.key === "Enter" && this.chosen) this.chosen(selected);
      });
    }
  }

  function describe(column) {
    const one = groups.get(group[column]), row = xy[2 * column + 1], col = xy[2 * column];
    const lines = [one.name];
    const name = names ? names.of[column] : -1;
    const called = name < 0 ? "" : `${names.kinds[name]}, probability ${(names.probability[column] / 255).toFixed(2)}${names.other[column] < 0 ? "" : ` (or ${names.kinds[names.other[column]]})`}`;
    if (one.number >= 0) lines[0] += `, probability ${(probability[column] / 255).toFixed(2)}`;
    if (names) lines.unshift(called || "no name");
    lines.push(`row ${row.toFixed(1)}, column ${col.toFixed(1)} px`);
    if (data.pixel_nm) lines.push(`y ${(row * data.pixel_nm[0]).toFixed(3)}, x ${(col * data.pixel_nm[1]).toFixed(3)} nm`);
    if (one.number === -3) {
      lines[names ? 1 : 0] = `empty site of motif ${site[column]}: no column found`;
      if (!Number.isNaN(brightness[column])) lines.push(`brightness ${brightness[column].toFixed(2)}, where 0 is a gap and 1 a column of motif ${site[column]}`);
      return lines.join("\n");
    }
    const value = brightness[column], ratio = (to) => (value / to).toFixed(2);
    lines.push(site[column] < 0 ? "between the sites" : site[column] === one.number ? "on a site of its own motif" : `on a site of motif ${site[column]}`);
    if (one.number < 0) lines.push(`brightness ${ratio(1)} × the median of all columns`);
    else {
      const [middle, low, high] = one.usual;
      const odd = value < low ? ", far darker than usual" : value > high ? ", far brighter than usual" : "";
      lines.push(`brightness ${ratio(1)} × the median of all columns, ${ratio(middle)} × that of its motif${odd}`);
    }
    return [...lines, ...inside(column)].join("\n");
  }
  /* What the layers say of a column, a line for each that says something. */
  function inside(column) {
    return layers.map((one) => {
      const wide = one.values.length / one.errors.length;
      const value = [...one.values.slice(wide * column, wide * (column + 1))];
      if (value.some(Number.isNaN)) return "";
      if (one.kind === "class") return value[0] < 0 ? "" : one.words[value[0]];
      const error = one.errors[column], size = Math.hypot(...value);
      if (one.kind === "value") return `${one.name} ${value[0].toPrecision(3)} ± ${error.toPrecision(2)} ${one.unit}`;
      const angle = (Math.atan2(-value[0] * tall, value[1]) * 180) / Math.PI;
      return `${one.name} ${size.toPrecision(3)} ± ${error.toPrecision(2)} ${one.unit}, towards ${angle.toFixed(0)}°`;
    }).filter(Boolean);
  }
  /* Red above zero, blue below, white at it. */
  function diverging(share) {
    const t = Math.max(-1, Math.min(1, share)), end = t > 0 ? [178, 24, 43] : [33, 102, 172];
    return `rgb(${end.map((c) => Math.round(245 + (c - 245) * Math.abs(t))).join(",")})`;
  }
  function drawLayer(view, pen) {
    if (!layer) return;
    const r = Math.max(1.5, 0.42 * view.spacing * view.scale), wide = layer.values.length / layer.errors.length;
    for (let i = 0; i < layer.errors.length; i++) {
      const value = layer.values[wide * i];
      if (Number.isNaN(value) || (clearOnly && !layer.clear[i])) continue;
      const x = (flat[2 * i] - view.centre[0]) * view.scale + view.width / 2, y = (flat[2 * i + 1] - view.centre[1]) * view.scale + view.height / 2;
      if (x < -r || y < -r || x > view.width + r || y > view.height + r) continue;
      pen.globalAlpha = layer.clear[i] ? 1 : 0.3;
      if (layer.kind === "arrow") {
        const col = layer.values[2 * i + 1], long = (1.6 * r) / layer.limit, angle = Math.atan2(-value * tall, col);
        const dx = col * long, dy = value * tall * long, head = Math.min(0.35 * Math.hypot(dx, dy), 0.6 * r);
        pen.strokeStyle = pen.fillStyle = `hsl(${((angle * 180) / Math.PI + 360) % 360} 90% 50%)`;
        pen.lineWidth = Math.max(1, 0.16 * r);
        pen.beginPath(); pen.moveTo(x - dx / 2, y - dy / 2); pen.lineTo(x + dx / 2, y + dy / 2); pen.stroke();
        pen.beginPath(); pen.moveTo(x + dx / 2, y + dy / 2);
        for (const turn of [2.6, -2.6]) pen.lineTo(x + dx / 2 + head * Math.cos(-angle + turn), y + dy / 2 + head * Math.sin(-angle + turn));
        pen.fill();
      } else {
        pen.fillStyle = layer.kind === "class" ? (value < 0 ? "#999" : grainColours[value % grainColours.length]) : diverging(value / layer.limit);
        pen.beginPath(); pen.arc(x, y, r, 0, 2 * Math.PI); pen.fill();
      }
    }
    pen.globalAlpha = 1;
  }
  function say(column) { $("said").textContent = column < 0 ? "" : describe(column).replaceAll("\n", "; "); }
  function select(column) {
    if (column === selected) return;
    selected = column;
    redraw();
  }
  function redraw() { views.forEach((view) => view.changed()); }

  /* A round length of at most a quarter of the view. */
  function scaleBar(view, pen) {
    const nm = data.pixel_nm ? data.pixel_nm[1] : null;
    const longest = (0.25 * view.width / view.scale) * (nm || 1);
    const power = 10 ** Math.floor(Math.log10(longest));
    const length = Math.max(...[1, 2, 5].map((s) => s * power).filter((s) => s <= longest));
    const label = nm ? (length >= 0.999 ? `${+length.toPrecision(2)} nm` : `${+(10 * length).toPrecision(2)} Å`) : `${+length.toPrecision(2)} px`;
    const wide = (length / (nm || 1)) * view.scale, y = view.height - 16;
    pen.fillStyle = "rgba(0,0,0,.65)"; pen.fillRect(8, y - 24, wide + 16, 34);
    pen.fillStyle = "#fff"; pen.fillRect(16, y, wide, 4);
    pen.font = "600 13px system-ui, sans-serif"; pen.textAlign = "left"; pen.textBaseline = "bottom";
    pen.fillText(label, 16, y - 2, Math.max(wide, 34));
  }

  const views = [];
  const all = Uint32Array.from(group, (_, i) => i);
  const flat = Float32Array.from(xy, (value, i) => (i % 2 ? value * tall : value));
  const picture = new Image();
  picture.onload = redraw;
  picture.src = data.image;
  const imageView = new View("image", {
    points: flat, columns: all, spacing: data.spacing, outline: 0.75,
    box: [-0.5, -0.5 * tall, data.width - 0.5, (data.height - 0.5) * tall],
    draw(view, pen) {
      if (picture.complete && picture.naturalWidth) {
        const x = (-0.5 - view.centre[0]) * view.scale + view.width / 2, y = (-0.5 * tall - view.centre[1]) * view.scale + view.height / 2;
        pen.imageSmoothingEnabled = (view.scale * data.image_width) / picture.naturalWidth < 4;
        pen.imageSmoothingQuality = "high";
        pen.drawImage(picture, x, y, data.image_width * view.scale, data.image_height * tall * view.scale);
      }
    },
  });
  const plain = imageView.draw.bind(imageView);
  imageView.draw = () => { plain(); if (imageView.width) { drawLayer(imageView, imageView.pen); scaleBar(imageView, imageView.pen); } };
  views.push(imageView);
  if (data.layout) {
    const points = unpack(data.layout.xy, Float32Array), columns = unpack(data.layout.index, Int32Array);
    let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
    for (let k = 0; k < columns.length; k++) {
      left = Math.min(left, points[2 * k]); right = Math.max(right, points[2 * k]);
      top = Math.min(top, points[2 * k + 1]); bottom = Math.max(bottom, points[2 * k + 1]);
    }
    const margin = 0.05 * Math.max(right - left, bottom - top, 1e-6);
    const side = Math.max(right - left, bottom - top) + 2 * margin;
    views.push(new View("layout", {
      points, columns, spacing: side / 26, outline: 0.7, pale: 0.25, box: [left - margin, top - margin, right + margin, bottom + margin], draw() {},
    }));
    Object.defineProperty(views[1], "radius", { get() { return Math.max(2, Math.min(2.8 * (this.scale / this.whole) ** 0.5, 9) * markSize); } });
  }

  for (const box of document.querySelectorAll("input[data-group]")) {
    const one = groups.get(Number(box.dataset.group));
    const update = () => { one.shown = box.checked; redraw(); };
    box.addEventListener("change", update);
    update();
  }
  const show = (one, on) => { document.querySelector(`input[data-group="${one.number}"]`).checked = one.shown = on; };
  let lookedAt = null;
  for (const button of document.querySelectorAll("[data-all]")) button.addEventListener("click", () => {
    for (const box of document.querySelectorAll("input[data-group]")) {
      const one = groups.get(Number(box.dataset.group));
      show(one, button.dataset.all === "rare" ? !one.crystal && one.number !== -2 : button.dataset.all === "on");
    }
    lookedAt = null;
    say(-1);
    redraw();
  });
  // Where columns lie this close, marks on all of them would hide the image from the first look.
  if (imageView.spacing * imageView.whole < 14 && data.groups.some((one) => one.crystal)) {
    document.querySelector('[data-all="rare"]').click();
    const crystal = data.groups.filter((one) => one.crystal).map((one) => one.name);
    $("said").textContent = `Only what is rare is marked. The crystal (${crystal.join(", ")}) would hide the image: zoom in, then choose All.`;
  }
  for (const button of document.querySelectorAll("[data-find]")) {
    const one = groups.get(Number(button.dataset.find));
    let next = 0, order = [];
    const middle = [...one.columns].map((i) => brightness[i]).sort((a, b) => a - b)[one.columns.length >> 1];
    const sort = () => {
      // What is like no motif is like nothing else: there the brightest, often adatoms, are worth a look first.
      const typical = (i) => (one.number === -3 ? 0 : one.number < 0 ? -brightness[i] : Math.abs(brightness[i] - middle));
      const by = { typical, bright: (i) => -brightness[i], dark: (i) => brightness[i], unsure: (i) => probability[i], place: (i) => i }[$("order").value];
      order = [...one.columns].sort((a, b) => by(a) - by(b) || a - b);
      next = 0;
    };
    $("order").addEventListener("change", sort);
    sort();
    button.addEventListener("click", () => {
      if (!order.length) return;
      const column = order[next++ % order.length];
      // What this button switched on for a look is switched off when the look is at something else.
      if (lookedAt && lookedAt !== one) show(lookedAt, false);
      if (!one.shown) { show(one, true); lookedAt = one; }
      selected = column;
      imageView.hideTip();
      imageView.show(imageView.place.get(column));
      redraw();
      $("said").textContent = `${((next - 1) % order.length) + 1} of ${order.length}: ${describe(column).replaceAll("\n", "; ")}`;
      const box = imageView.canvas.getBoundingClientRect();
      if (box.bottom < 80 || box.top > window.innerHeight - 80) $("image-view").scrollIntoView({ block: "center" });
    });
  }
  for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => {
    if (button.dataset.zoom === "fit") { select(-1); say(-1); imageView.fit(); } else imageView.zoom(button.dataset.zoom === "in" ? 1.5 : 1 / 1.5);
  });
  if (layers.length) {
    $("layer").addEventListener("change", (event) => {
      layer = layers.find((one) => one.name === event.target.value) || null;
      const reach = layer ? `${layer.limit.toPrecision(2)} ${layer.unit}` : "";
      $("layer-key").textContent = !layer || layer.kind === "class" ? "" : layer.kind === "value" ? `blue −${reach}, red +${reach}` : `longest arrows ${reach}; red to the right, then counter-clockwise`;
      if (layer && layer.kind === "class") layer.words.slice(0, grainColours.length).forEach((word, i) => {
        const patch = document.createElement("span");
        patch.textContent = "■ ";
        patch.style.color = grainColours[i];
        $("layer-key").append(patch, `${word} `);
      });
      redraw();
    });
    $("clear-only").addEventListener("change", (event) => { clearOnly = event.target.checked; redraw(); });
  }
  $("mark-size").addEventListener("input", (event) => { markSize = Number(event.target.value); redraw(); });

  /* Examples: columns that are pointed at, and the call that looks for others like them. */
  const examples = [];
  const told = (text) => { $("example-said").textContent = text; };
  function writeExamples() {
    const kinds = new Map();
    for (const one of examples) kinds.set(one.name, [...(kinds.get(one.name) || []), one.column]);
    const pair = (i) => `(${xy[2 * i + 1].toFixed(1)}, ${xy[2 * i].toFixed(1)})`;
    $("example-list").replaceChildren(...[...kinds].map(([name, columns]) => {
      const line = document.createElement("li");
      line.textContent = `${name}: ${columns.length} (${columns.map(pair).join(", ")})`;
      return line;
    }));
    const lines = [...kinds].map(([name, columns]) => `    ${JSON.stringify(name)}: [${columns.map(pair).join(", ")}],`);
    $("example-call").value = lines.length ? `result = result.like({\n${lines.join("\n")}\n})` : "";
    $("example-copy").disabled = $("example-undo").disabled = !examples.length;
  }
  imageView.chosen = (column) => {
    if (!$("examples").open || column < 0) return;
    const name = $("example-name").value.trim();
    if (!name) return told("Write the name of the kind first.");
    if (group[column] === -3) return told("There is no column on an empty site.");
    if (group[column] === -2) return told("That column has no whole patch in the image; choose one farther inside.");
    const before = examples.findIndex((one) => one.column === column);
    if (before >= 0) examples.splice(before, 1);
    examples.push({ name, column });
    writeExamples();
    told(`${name}: ${examples.filter((one) => one.name === name).length} columns`);
  };
  $("example-undo").addEventListener("click", () => { examples.pop(); writeExamples(); told("Taken back."); });
  $("example-copy").addEventListener("click", async () => {
    const call = $("example-call");
    try { await navigator.clipboard.writeText(call.value); } catch { call.select(); document.execCommand("copy"); }
    told("Copied.");
  });

  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const label = () => { $("theme").setAttribute("aria-pressed", String(isDark())); redraw(); };
  try { const kept = localStorage.getItem("torchmotif-theme"); if (kept) root.dataset.theme = kept; } catch { /* no storage: the system's choice */ }
  $("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("torchmotif-theme", root.dataset.theme); } catch { /* as above */ }
    label();
  });
  prefersDark.addEventListener("change", label);
  label();
  let before, closed = [];
  window.addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; closed = [...document.querySelectorAll("details:not([open])")]; closed.forEach((part) => { part.open = true; }); views.forEach((view) => view.draw()); });
  window.addEventListener("afterprint", () => { if (before) root.dataset.theme = before; else delete root.dataset.theme; closed.forEach((part) => { part.open = false; }); redraw(); });
  window.torchmotif = { views, groups, describe };
})();
