// The timeline that zooms: every interval, drawn on a canvas; the still picture stays for print and without scripts.
async function unpacked(text) {
  const numbers = [];
  let number = 0, factor = 1;
  for (const byte of await inflate(text)) {
    number += (byte & 127) * factor;
    if (byte & 128) factor *= 128; else { numbers.push(number); number = 0; factor = 1; }
  }
  return numbers;
}
async function zoomable(place, T) {
  const numbers = await unpacked(T.packed), LANE = 40, LEFT = 96, TOP = 22, ORDER = ["compute", "fill", "read", "write", "wait"];
  let at = 0;
  const lanes = T.tracks.map(track => {
    let now = 0;
    return Array.from({length: track.count}, () => {
      const [row, what, gap, length] = numbers.slice(at, at += 4), bytes = track.kind === "memory" ? numbers[at++] : 0;
      const start = now + gap;
      now = start + length;
      return {row, what, start, end: now, bytes, meaning: (track.kind === "engine" ? T.causes : T.kinds)[what]};
    });
  });
  const all = T.cycles, canvas = make("canvas", {tabIndex: 0, role: "img", ariaLabel: "Timeline of all intervals: plus and minus zoom, arrow keys move, 0 shows all; the table of layers has the same numbers"});
  const told = make("span", {className: "quiet", role: "status"});
  const tool = (words, act) => make("button", {type: "button", textContent: words, onclick: act});
  place.append(make("div", {className: "tools"}, tool("zoom in", () => zoom(.5)), tool("zoom out", () => zoom(2)),
    tool("to the chosen row", () => toChosen()), tool("all", () => show(0, all)), told), canvas);
  place.hidden = false;
  $$(".picture", place.closest("section")).filter(node => node !== place.parentElement).forEach(node => node.classList.add("static"));
  $$(".static", place.closest("section")).forEach(node => { node.hidden = true; });
  let from = 0, to = all, width = 0;
  const x = cycle => LEFT + (cycle - from) / (to - from) * (width - LEFT - 4);
  const chosenRow = () => T.rows.findIndex(row => row[0] === chosen);
  function show(a, b) {
    const span = Math.round(Math.max(20, Math.min(all, b - a)));
    from = Math.round(Math.max(0, Math.min(all - span, a)));
    to = from + span;
    draw();
  }
  function zoom(factor, around = (from + to) / 2) { show(around - (around - from) * factor, around + (to - around) * factor); }
  function toChosen() {
    const row = T.rows[chosenRow()];
    if (row) show(row[2] - (row[3] - row[2]) * .08 - 10, row[3] + (row[3] - row[2]) * .08 + 10);
  }
  const first = (lane, cycle) => {
    let low = 0, high = lane.length;
    while (low < high) { const middle = low + high >> 1; if (lane[middle].end <= cycle) low = middle + 1; else high = middle; }
    return low;
  };
  function draw() {
    const ratio = devicePixelRatio || 1, height = TOP + LANE * lanes.length + 4, g = canvas.getContext("2d");
    width = canvas.clientWidth;
    if (!width) return;
    canvas.style.height = height + "px"; canvas.width = width * ratio; canvas.height = height * ratio;
    g.scale(ratio, ratio); g.font = "11px system-ui"; g.textBaseline = "middle";
    const paint = Object.fromEntries(ORDER.map(name => [name, colour(name)])), ink = colour("ink"), line = colour("line"), paper = colour("paper");
    ruler(g, height, line, colour("quiet"));
    const marked = chosenRow();
    lanes.forEach((lane, n) => {
      const y = TOP + LANE * n + 3, h = LANE - 8;
      g.fillStyle = ink; g.textAlign = "left"; g.fillText(T.tracks[n].name, 6, y + h / 2);
      g.save(); g.beginPath(); g.rect(LEFT, 0, width - LEFT, height); g.clip();
      const columns = new Map();
      for (let i = first(lane, from); i < lane.length && lane[i].start < to; i++) {
        const one = lane[i], a = x(one.start), b = x(one.end), faint = marked >= 0 && one.row !== marked;
        if (b - a >= 1.6) { g.globalAlpha = faint ? .25 : 1; g.fillStyle = paint[one.meaning]; g.fillRect(a, y, b - a, h); continue; }
        for (let p = Math.floor(a); p < b; p++) {
          const column = columns.get(p) ?? columns.set(p, {}).get(p), key = one.meaning + (faint ? "-" : "");
          column[key] = (column[key] || 0) + Math.min(b, p + 1) - Math.max(a, p);
        }
      }
      // What is narrower than a pixel shares its pixel's column in parts, so that no colour is a mixture.
      for (const [p, column] of columns) {
        let top = y + h;
        for (const name of ORDER) for (const key of [name, name + "-"]) if (column[key]) {
          const part = Math.min(1, column[key]) * h;
          g.globalAlpha = key.endsWith("-") ? .25 : 1; g.fillStyle = paint[name]; g.fillRect(p, top - part, 1, part); top -= part;
        }
      }
      g.globalAlpha = 1;
      T.rows.forEach(([, name, start, end, track], i) => {
        if (track !== n || end < from || start > to || end === start) return;
        const a = x(start), b = x(end), left = Math.max(a, LEFT), words = g.measureText(name).width;
        g.fillStyle = paper; g.fillRect(a, y - 2, 1, h + 4);
        if (Math.min(b, width) - left > words + 12) {
          g.globalAlpha = .85; g.fillRect(left + 3, y + h / 2 - 8, words + 6, 16); g.globalAlpha = 1;
          g.fillStyle = ink; g.fillText(name, left + 6, y + h / 2);
        }
        if (i === marked) { g.strokeStyle = colour("accent"); g.lineWidth = 2.5; g.strokeRect(a + 1, y - 1, Math.max(1, b - a - 2), h + 2); }
      });
      g.restore();
    });
    const micro = T.clock ? ` = ${((to - from) / T.clock * 1e6).toPrecision(4)} \u00b5s` : "";
    told.textContent = `cycles ${whole(from)} to ${whole(to)} of ${whole(all)}${micro}`;
  }
  function ruler(g, height, line, quiet) {
    const most = width < 600 ? 4 : 9, steps = [...Array(15).keys()].flatMap(e => [10 ** e, 2 * 10 ** e, 5 * 10 ** e]);
    const step = steps.find(each => (to - from) / each < most);
    for (let cycle = Math.ceil(from / step) * step; cycle <= to; cycle += step) {
      g.fillStyle = line; g.fillRect(x(cycle), TOP - 4, 1, height);
      g.fillStyle = quiet; g.textAlign = x(cycle) > width - 40 ? "right" : "left"; g.fillText(whole(cycle), Math.min(x(cycle) + 2, width - 4), 9);
    }
  }
  function under(event) {
    const box = canvas.getBoundingClientRect(), n = Math.floor((event.clientY - box.top - TOP) / LANE), lane = lanes[n];
    const cycle = from + (event.clientX - box.left - LEFT) / (width - LEFT - 4) * (to - from);
    if (!lane || cycle < from) return null;
    const one = lane[first(lane, cycle)];
    return one && one.start <= cycle ? [T.tracks[n], one] : null;
  }
  const said = ([track, one]) => `${T.rows[one.row][1]}: ${(track.kind === "engine" ? T.words : T.moves)[one.what]}\n${whole(one.end - one.start)} cycles from ${whole(one.start)}` + (one.bytes ? `\n${whole(one.bytes)} B` : "");
  canvas.addEventListener("wheel", event => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.25 : .8, from + (event.clientX - box.left - LEFT) / (width - LEFT - 4) * (to - from));
  }, {passive: false});
  let drag = null;
  canvas.addEventListener("pointerdown", event => { drag = {at: event.clientX, from, span: to - from, moved: false}; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", event => {
    if (!drag) { const found = under(event); say(event, found && said(found)); return; }
    if (Math.abs(event.clientX - drag.at) > 3) drag.moved = true;
    if (drag.moved) { const start = drag.from - (event.clientX - drag.at) / (width - LEFT - 4) * drag.span; show(start, start + drag.span); }
  });
  canvas.addEventListener("pointerup", event => { const found = drag && !drag.moved && under(event); drag = null; if (found) choose(T.rows[found[1].row][0], "picture"); });
  canvas.addEventListener("pointerleave", event => say(event, ""));
  canvas.addEventListener("dblclick", event => { const box = canvas.getBoundingClientRect(); zoom(.4, from + (event.clientX - box.left - LEFT) / (width - LEFT - 4) * (to - from)); });
  const keys = {ArrowLeft: () => show(from - (to - from) / 5, to - (to - from) / 5), ArrowRight: () => show(from + (to - from) / 5, to + (to - from) / 5),
    "+": () => zoom(.6), "=": () => zoom(.6), "-": () => zoom(1 / .6), 0: () => show(0, all)};
  canvas.addEventListener("keydown", event => { if (keys[event.key] && !event.ctrlKey && !event.metaKey) { event.preventDefault(); keys[event.key](); } });
  followers.push(draw); redraws.push(draw);
  new ResizeObserver(draw).observe(canvas);
  draw();
}
if (DATA.timeline) zoomable($("#timeline-zoom"), DATA.timeline).catch(() => {
  $("#timeline-zoom").hidden = true;
  $$(".static").forEach(node => { node.hidden = false; });
});
