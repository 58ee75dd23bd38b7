// Plays the panels of a view in step; a box is dragged, a patch or a point of a curve is clicked.
// Of gr.HTML: `element`, `props`, `trigger`, `watch`.
let root = element.querySelector('.film');
const state = { frame: 0, playing: !matchMedia('(prefers-reduced-motion: reduce)').matches, timer: 0, box: null, patch: null };
let value = null, panels = [], thumbs = [];
const held = new Set(); // while a box is made, its canvas stays, and what comes waits
let late = false;

const make = (tag, attributes = {}, ...children) => {
  const svg = ['svg', 'polyline', 'circle', 'rect', 'line', 'text', 'g', 'title'].includes(tag);
  const node = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, given] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), given);
    else if (given !== null && given !== false) node.setAttribute(name, given);
  }
  node.append(...children);
  return node;
};
// Of two models one may show a single frame.
const longest = () => panels.reduce((most, { sheet, image }) => (sheet.n > most.n ? { n: sheet.n, sheet, image } : most), { n: 0 });
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

let images = new Map(); // of what stands on the screen: a picture that stays is not asked for again
const load = (sheet, before) => {
  if (before.has(sheet.src)) return before.get(sheet.src);
  const image = new Image();
  image.src = sheet.src;
  return image.decode().then(() => image);
};
let busy = 0;
const send = (data) => {
  late = false; // an answer to this comes
  clearTimeout(busy);
  busy = setTimeout(() => root.classList.add('busy'), 300);
  trigger('select', data);
};
const release = (what) => {
  held.delete(what);
  if (late && !held.size) render();
};

function draw() {
  if (!value) return;
  for (const { canvas, sheet, image, interactive } of panels) {
    const k = Math.min(state.frame, sheet.n - 1), pen = canvas.getContext('2d');
    pen.drawImage(image, 0, k * sheet.h, sheet.w, sheet.h, 0, 0, canvas.width, canvas.height);
    if (interactive && state.box) drawBox(pen, canvas.width / sheet.w);
  }
  thumbs.forEach(({ canvas }, k) => {
    canvas.classList.toggle('now', k === state.frame);
    canvas.classList.toggle('in', !!state.box && k >= state.box[0] && k < state.box[1]);
  });
  const slider = root.querySelector('.place');
  if (slider) {
    slider.value = state.frame;
    root.querySelector('.count').textContent = `frame ${state.frame + 1} of ${slider.max - -1}`;
  }
}

function drawBox(pen, scale) {
  const [t0, t1, y0, y1, x0, x1] = state.box, inside = state.frame >= t0 && state.frame < t1;
  pen.save();
  pen.lineWidth = 3;
  pen.strokeStyle = 'rgba(0, 0, 0, 0.7)';
  pen.strokeRect(x0 * scale + 1, y0 * scale + 1, (x1 - x0) * scale - 2, (y1 - y0) * scale - 2);
  pen.lineWidth = 1.5;
  pen.strokeStyle = '#ffd400';
  pen.setLineDash(inside ? [] : [4, 4]);
  pen.strokeRect(x0 * scale + 1, y0 * scale + 1, (x1 - x0) * scale - 2, (y1 - y0) * scale - 2);
  pen.restore();
}

function play(on) {
  state.playing = on;
  clearInterval(state.timer);
  const button = root.querySelector('.play'), n = panels.length ? longest().n : 1;
  if (button) {
    button.textContent = on ? 'Pause' : 'Play';
    button.setAttribute('aria-pressed', on);
  }
  if (on && n > 1) {
    state.timer = setInterval(() => {
      if (!root.isConnected) return clearInterval(state.timer);
      state.frame = (state.frame + 1) % n;
      draw();
    }, Math.max((1000 * value.seconds) / n, 40));
  }
}

function at(event, canvas, sheet) {
  const area = canvas.getBoundingClientRect();
  return [
    clamp(((event.clientX - area.left) / area.width) * sheet.w, 0, sheet.w - 1),
    clamp(((event.clientY - area.top) / area.height) * sheet.h, 0, sheet.h - 1),
  ];
}

const snapped = (a, b, cell) => {
  const [low, high] = a < b ? [a, b] : [b, a];
  return [Math.floor(low / cell) * cell, (Math.floor(high / cell) + 1) * cell];
};

function boxOn(canvas, sheet) {
  let from = null, before = null, played = false;
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.add('drag');
    from = at(event, canvas, sheet);
    before = [...state.box];
    played = state.playing;
    if (state.frame < before[0] || state.frame >= before[1]) state.frame = before[0];
    play(false);
    event.preventDefault();
    canvas.focus();
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!from) return;
    const to = at(event, canvas, sheet), [, h, w] = value.cell;
    state.box = [...state.box.slice(0, 2), ...snapped(from[1], to[1], h), ...snapped(from[0], to[0], w)];
    draw();
  });
  const end = (event, keep) => {
    if (!from) return;
    from = null;
    if (!keep) state.box = before;
    if (String(state.box) !== String(before)) send({ box: state.box });
    draw();
    play(played);
    release('drag');
  };
  canvas.addEventListener('pointerup', (event) => end(event, true));
  canvas.addEventListener('pointercancel', (event) => end(event, false));
  canvas.addEventListener('keydown', (event) => {
    const way = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [1, -1], ArrowRight: [1, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    const [axis, sign] = way, cell = value.cell[1 + axis], size = axis ? sheet.w : sheet.h;
    const box = [...state.box], low = 2 + 2 * axis;
    if (event.shiftKey) box[low + 1] = clamp(box[low + 1] + sign * cell, box[low] + cell, size);
    else if (box[low] + sign * cell >= 0 && box[low + 1] + sign * cell <= size) {
      box[low] += sign * cell;
      box[low + 1] += sign * cell;
    }
    if (String(box) === String(state.box)) return;
    state.box = box;
    draw();
    held.add('keys');
    soon(() => {
      send({ box });
      release('keys');
    });
  });
}

let waiting = 0;
const soon = (call) => {
  clearTimeout(waiting);
  waiting = setTimeout(call, 250);
};

function patchOn(canvas, sheet) {
  const [t, h, w] = value.cell;
  const choose = (patch) => {
    state.patch = patch;
    send({ patch });
  };
  canvas.addEventListener('pointerdown', (event) => {
    const [x, y] = at(event, canvas, sheet);
    play(false);
    choose([Math.floor(state.frame / t), Math.floor(y / h), Math.floor(x / w)]);
    event.preventDefault();
    canvas.focus();
  });
  canvas.addEventListener('keydown', (event) => {
    const way = { ArrowUp: [1, -1], ArrowDown: [1, 1], ArrowLeft: [2, -1], ArrowRight: [2, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    play(false);
    const patch = [Math.floor(state.frame / t), ...state.patch.slice(1)], n = [0, sheet.h / h, sheet.w / w];
    patch[way[0]] = clamp(patch[way[0]] + way[1], 0, n[way[0]] - 1);
    choose(patch);
  });
}

function thumbnails(sheet, image) {
  const strip = make('div', { class: 'strip', role: 'group', 'aria-label': 'the frames' });
  let from = null, moved = false, before = null, played = false;
  const index = (event) => {
    const under = document.elementFromPoint(event.clientX, event.clientY);
    const k = under && strip.contains(under) ? Number(under.dataset.k) : NaN;
    return Number.isNaN(k) ? null : k;
  };
  for (let k = 0; k < sheet.n; k++) {
    const canvas = make('canvas', { width: sheet.w, height: sheet.h, 'data-k': k });
    canvas.getContext('2d').drawImage(image, 0, k * sheet.h, sheet.w, sheet.h, 0, 0, sheet.w, sheet.h);
    thumbs.push({ canvas });
    strip.append(canvas);
  }
  strip.addEventListener('pointerdown', (event) => {
    from = index(event);
    if (from === null) return;
    strip.setPointerCapture(event.pointerId);
    held.add('strip');
    moved = false;
    before = state.box && [...state.box];
    played = state.playing;
    play(false);
    state.frame = from;
    draw();
    event.preventDefault();
  });
  strip.addEventListener('pointermove', (event) => {
    const k = from === null ? null : index(event);
    if (k === null || (k === from && !moved)) return;
    moved = true;
    if (state.box) state.box = [...snapped(from, k, value.cell[0]), ...state.box.slice(2)];
    state.frame = k;
    draw();
  });
  const end = () => {
    if (from !== null && moved && state.box) {
      if (String(state.box) !== String(before)) send({ box: state.box });
      play(played);
    }
    from = null;
    release('strip');
  };
  strip.addEventListener('pointerup', end);
  strip.addEventListener('pointercancel', end);
  return strip;
}

function curveOf(curve, number) {
  const width = 1000, height = 150, left = 4, top = 12, bottom = 22;
  const most = Math.max(...curve.values) * 1.08 || 1;
  const x = (time) => left + ((width - 2 * left) * time) / curve.duration;
  const y = (score) => top + (height - top - bottom) * (1 - score / most);
  const svg = make('svg', { viewBox: `0 0 ${width} ${height}`, class: 'curve', role: 'group' });
  const [start, end] = curve.window;
  svg.append(make('rect', { x: x(start), y: top, width: x(end) - x(start), height: height - top - bottom, class: 'window' }));
  svg.append(make('line', { x1: left, x2: width - left, y1: height - bottom, y2: height - bottom, class: 'axis' }));
  for (let second = 0; second <= curve.duration; second += Math.max(1, Math.ceil(curve.duration / 12))) {
    const label = make('text', { x: x(second), y: height - 5, class: second ? 'tick' : 'tick first' }, `${second} s`);
    svg.append(label);
  }
  svg.append(make('polyline', { points: curve.times.map((t, k) => `${x(t)},${y(curve.values[k])}`).join(' ') }));
  curve.values.forEach((score, k) => {
    const choose = () => send({ window: k, row: number });
    const point = make('circle', {
      cx: x(curve.times[k]), cy: y(score), r: k === curve.chosen ? 8 : 6, tabindex: 0, role: 'button',
      class: k === curve.chosen ? 'chosen' : '', 'data-window': k,
      'aria-label': `window ${k}, at ${curve.times[k].toFixed(2)} s, ${score.toFixed(4)}`,
      onclick: choose,
      onkeydown: (event) => {
        if (event.key === 'Enter' || event.key === ' ') {
          event.preventDefault();
          choose();
        }
      },
    });
    point.append(make('title', {}, `${curve.times[k].toFixed(2)} s: ${score.toFixed(4)}`));
    svg.append(point);
  });
  const name = value.curves.length > 1 ? `${curve.model}: ` : '';
  return make('div', {}, make('div', { class: 'told' }, `${name}surprise (${curve.label}). Click a point to see its window.`), svg);
}

let turn = 0;
async function render() {
  const next = props.value, film = element.querySelector('.film'); // the template may have been filled anew
  if (!next || !next.rows || next.number < value?.number || (next.number === value?.number && film === root)) return;
  const mine = ++turn;
  root = film;
  const sheets = [...next.rows.flatMap((row) => row.panels), ...(next.strip ? [next.strip] : [])];
  let loaded;
  try {
    loaded = await Promise.all(sheets.map((sheet) => load(sheet, images)));
  } catch {
    return; // pictures of an answer that a later one has replaced on the server
  }
  if (mine !== turn) return; // a later one has come
  if (held.size) return (late = true);
  late = false;
  clearTimeout(busy);
  root.classList.remove('busy');
  images = new Map(sheets.map((sheet, k) => [sheet.src, loaded[k]]));
  const strip = next.strip ? loaded.at(-1) : null;
  const focused = root.contains(document.activeElement) && document.activeElement.dataset.focus;
  clearInterval(state.timer);
  const before = value;
  value = next;
  panels = [];
  thumbs = [];
  state.box = next.box && [...next.box];
  if (!before && state.box && !state.playing) state.frame = (state.box[0] + state.box[1]) >> 1; // where something is hidden
  state.patch = next.patch;
  const parts = [];
  let place = 0;
  if (strip) {
    const whole = make('div', { class: 'strip whole' });
    for (let k = 0; k < next.strip.n; k++) {
      const canvas = make('canvas', { width: next.strip.w, height: next.strip.h });
      canvas.getContext('2d').drawImage(strip, 0, k * next.strip.h, next.strip.w, next.strip.h, 0, 0, canvas.width, canvas.height);
      whole.append(canvas);
    }
    parts.push(whole, ...next.curves.map(curveOf));
  }
  next.rows.forEach((row, r) => {
    if (row.title) parts.push(make('h3', {}, row.title));
    const line = make('div', { class: 'panels', style: `--n: ${Math.min(row.panels.length, 5)}` });
    row.panels.forEach((sheet, c) => {
      const interactive = r === 0 && c === 0 && (next.box || next.patch), scale = Math.max(1, Math.ceil(336 / sheet.w));
      const help = next.box ? '. Arrow keys move the box, with Shift they change its size.' : '. Arrow keys choose another patch.';
      const canvas = make('canvas', {
        width: sheet.w * scale, height: sheet.h * scale, role: 'img', 'aria-label': sheet.label + (interactive ? help : ''),
        class: interactive ? 'interactive' : '', tabindex: interactive ? 0 : null, 'data-focus': interactive ? 'first' : null,
      });
      canvas.getContext('2d').imageSmoothingEnabled = false;
      const image = loaded[place++];
      panels.push({ canvas, sheet, image, interactive });
      if (interactive) (next.box ? boxOn : patchOn)(canvas, sheet);
      line.append(make('figure', {}, canvas, make('figcaption', {}, sheet.label)));
    });
    parts.push(line, make('p', { class: 'told number' }, row.told));
  });
  if (panels.length && longest().n > 1) {
    const { n, sheet, image } = longest();
    state.frame = Math.min(state.frame, n - 1);
    parts.push(
      make('div', { class: 'controls' },
        make('button', { class: 'play', type: 'button', 'data-focus': 'play', onclick: () => play(!state.playing) }, 'Pause'),
        make('input', {
          class: 'place', type: 'range', min: 0, max: n - 1, 'aria-label': 'frame', 'data-focus': 'place',
          oninput: (event) => {
            play(false);
            state.frame = Number(event.target.value);
            draw();
          },
        }),
        make('span', { class: 'count' })),
    );
    if (!strip) parts.push(thumbnails(sheet, image));
  } else state.frame = 0;
  if (next.box) parts.push(make('p', { class: 'hint' }, longest().n > 1 ? 'Drag along the strip to choose from which frame to which the box hides the video.' : 'Drag another box over the first picture.'));
  if (next.patch) parts.push(make('p', { class: 'hint' }, 'Click a patch of the first picture. The strip goes to another frame.'));
  next.notes.forEach((note) => parts.push(make('p', { class: 'note', role: 'status' }, note)));
  root.replaceChildren(...parts);
  root.setAttribute('role', 'group');
  root.setAttribute('aria-label', next.video);
  root.dataset.turn = turn;
  if (focused) root.querySelector(`[data-focus="${focused}"]`)?.focus({ preventScroll: true });
  draw();
  play(state.playing);
}

watch('value', render);
render();
