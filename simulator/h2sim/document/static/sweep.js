// A sweep: machines to keep, a picture with axes to choose, a line a machine, and the front as files.
async function explore(packed) {
  const S = JSON.parse(new TextDecoder().decode(await inflate(packed))), N = S.ids.length, K = S.parameters.length, R = S.results.length;
  const onFront = new Set(S.front), keep = new Array(N).fill(true), wanted = S.parameters.map(p => p.values.map(() => true)), ranges = S.results.map(() => [-Infinity, Infinity]);
  let marked = -1, best = [...S.front];
  const small = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "\u00b5"], [1e-9, "n"]];
  const told = (value, unit) => {
    if (value === null) return "-";
    const [factor, prefix] = unit.startsWith("mm") || !unit ? [1, ""] : small.find(each => Math.abs(value) >= each[0]) ?? [1, ""];
    return `${Number((value / factor).toPrecision(4)).toLocaleString("en-US", {maximumFractionDigits: 6})} ${prefix}${unit}`.trim();
  };
  const key = j => "m-" + S.ids[j], option = (words, value) => make("option", {value, textContent: words});
  // What is kept
  const count = make("p", {role: "status", className: "quiet"}), keeper = $("#sweep-keep"), tools = make("div", {className: "tools"});
  S.parameters.forEach((p, i) => tools.append(make("fieldset", {}, make("legend", {textContent: p.name, title: p.path}), ...p.values.map((value, q) => {
    const box = make("input", {type: "checkbox", checked: true});
    box.onchange = () => { wanted[i][q] = box.checked; filter(); };
    return make("label", {}, box, value);
  }))));
  S.results.forEach((r, m) => tools.append(make("fieldset", {}, make("legend", {textContent: `${r.name}${r.unit ? ", " + r.unit : ""}`}), ...["from", "to"].map((word, end) => {
    const box = make("input", {type: "number", step: "any"});
    box.className = "number";
    box.oninput = () => { ranges[m][end] = box.value === "" ? (end ? Infinity : -Infinity) : Number(box.value); filter(); };
    return make("label", {}, word + " ", box);
  }))));
  const all = make("button", {type: "button", textContent: "keep all"});
  all.onclick = () => { wanted.forEach(each => each.fill(true)); ranges.forEach(each => { each[0] = -Infinity; each[1] = Infinity; }); $$("input", tools).forEach(box => { if (box.type === "checkbox") box.checked = true; else box.value = ""; }); filter(); };
  keeper.append(make("details", {}, make("summary", {textContent: "Keep only machines with ..."}), tools, all), count);
  keeper.hidden = false;
  // Every machine as a point
  const place = $("#sweep-points"), choices = ["across", "up", "colour"].map((word, n) => {
    const list = n < 2 ? S.results.map((r, m) => option(r.name, m)) : S.parameters.map((p, i) => option(p.name, i));
    const choice = make("select", {}, ...list);
    choice.value = n === 1 ? Math.min(1, R - 1) : 0;
    choice.onchange = redraw;
    return [word, choice];
  });
  const [across, up, hue] = choices.map(each => each[1]), legend = make("p", {className: "legend"});
  const points = make("canvas", {tabIndex: 0, role: "img", ariaLabel: "Every machine as a point: left and right arrow keys walk along the front; the table of the front has the numbers"});
  place.append(make("div", {className: "tools"}, ...choices.map(([word, choice]) => make("label", {}, word + " ", choice))), points, legend);
  place.hidden = false;
  const still = $$("#points > .picture svg[role=group]").map(node => node.closest(".picture"));
  still.forEach(node => { node.classList.add("static"); node.hidden = true; });
  const shades = () => ["s0", "s1", "s2", "s3", "s4", "s5", "s6"].map(colour);
  function filter() {
    for (let j = 0; j < N; j++) keep[j] = S.parameters.every((p, i) => wanted[i][p.at[j]]) && S.results.every((r, m) => r.values[j] >= ranges[m][0] && r.values[j] <= ranges[m][1]);
    redraw();
  }
  function nobodyBeats(a, b) {
    const sign = m => S.results[m].most ? -1 : 1, A = S.results[a].values, B = S.results[b].values;
    const order = keep.flatMap((kept, j) => kept ? [j] : []).sort((i, j) => sign(a) * (A[i] - A[j]) || sign(b) * (B[i] - B[j]));
    let least = Infinity;
    return order.filter(j => { const value = sign(b) * B[j], better = value < least; if (better) least = value; return better; });
  }
  const scale = values => {
    const known = values.filter(v => v > 0), low = Math.log(Math.min(...known.length ? known : [1])), high = Math.log(Math.max(...known.length ? known : [10])), room = (high - low) * .05 || .5;
    return value => (Math.log(value) - low + room) / (high - low + 2 * room);
  };
  const ticks = values => {
    const low = Math.min(...values), high = Math.max(...values), found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) for (const f of [1, 2, 5]) { const t = f * 10 ** e; if (t >= low && t <= high) found.push(t); }
    return found;
  };
  function sheet(canvas, height, width = canvas.clientWidth) {
    const ratio = devicePixelRatio || 1, g = canvas.getContext("2d");
    canvas.style.height = height + "px"; canvas.width = width * ratio; canvas.height = height * ratio;
    g.scale(ratio, ratio); g.font = "11px system-ui";
    return [g, width, height];
  }
  let spots = [];
  function drawPoints() {
    if (!points.clientWidth) return;
    const [g, W, H] = sheet(points, innerWidth < 640 ? 320 : 440), a = S.results[+across.value], b = S.results[+up.value], fx = scale(a.values), fy = scale(b.values);
    const X = v => 66 + fx(v) * (W - 80), Y = v => H - 36 - fy(v) * (H - 48), shade = shades(), p = S.parameters[+hue.value], ink = colour("ink");
    for (const t of ticks(a.values)) { g.fillStyle = colour("line"); g.fillRect(X(t), 8, 1, H - 44); g.fillStyle = colour("quiet"); g.textAlign = "center"; g.fillText(told(t, a.unit), X(t), H - 22); }
    for (const t of ticks(b.values)) { g.fillStyle = colour("line"); g.fillRect(66, Y(t), W - 78, 1); g.fillStyle = colour("quiet"); g.textAlign = "right"; g.fillText(told(t, b.unit), 62, Y(t) + 4); }
    g.textAlign = "center"; g.fillText(a.name, (W + 66) / 2, H - 5);
    g.textAlign = "left"; g.fillText(b.name, 4, 10);
    spots = S.ids.map((_, j) => [X(a.values[j]), Y(b.values[j])]);
    for (let j = 0; j < N; j++) if (!keep[j]) { g.fillStyle = colour("line"); g.fillRect(spots[j][0] - 1, spots[j][1] - 1, 2, 2); }
    g.globalAlpha = .65;
    for (let j = 0; j < N; j++) if (keep[j]) { g.fillStyle = p ? shade[p.at[j] % 7] : shade[0]; g.beginPath(); g.arc(...spots[j], 2.8, 0, 7); g.fill(); }
    g.globalAlpha = 1; g.strokeStyle = ink; g.lineWidth = 1.4; g.beginPath();
    best.forEach((j, i) => { const [x, y] = spots[j]; if (i) { g.lineTo(x, spots[best[i - 1]][1]); g.lineTo(x, y); } else g.moveTo(x, y); });
    g.stroke();
    for (const j of best) { g.fillStyle = p ? shade[p.at[j] % 7] : shade[0]; g.beginPath(); g.arc(...spots[j], 4.2, 0, 7); g.fill(); g.stroke(); }
    const base = [a.values[N], b.values[N]];
    if (base[0] > 0 && base[1] > 0) { const x = X(base[0]), y = Y(base[1]); g.lineWidth = 2; g.strokeRect(x - 5, y - 5, 10, 10); g.fillStyle = ink; g.textAlign = x > W - 90 ? "right" : "left"; g.fillText(S.base, x + (x > W - 90 ? -9 : 9), y + 4); }
    if (marked >= 0) { g.strokeStyle = colour("accent"); g.lineWidth = 3; g.beginPath(); g.arc(...spots[marked], 8, 0, 7); g.stroke(); }
    const swatch = n => { const box = document.createElementNS("http://www.w3.org/2000/svg", "svg"), rect = document.createElementNS("http://www.w3.org/2000/svg", "rect"); box.setAttribute("width", 10); box.setAttribute("height", 10); box.setAttribute("aria-hidden", "true"); rect.setAttribute("width", 10); rect.setAttribute("height", 10); rect.setAttribute("class", "f-s" + n % 7); box.append(rect); return box; };
    legend.replaceChildren(...(p ? p.values.map((value, q) => make("span", {}, swatch(q), `${p.name} ${value}`)) : []));
  }
  // Every machine as a line
  const region = $("#sweep-lines"), lines = make("canvas", {role: "img", ariaLabel: "Every machine as a line over its parameters and results; the filters and the tables have the same"});
  region.append(make("div", {className: "scroll", tabIndex: 0, role: "group", ariaLabel: "lines"}, lines));
  region.hidden = false;
  function drawLines() {
    const room = lines.parentElement.clientWidth;
    if (!room) return;
    const width = Math.max(room, 84 * (K + R));
    lines.style.width = width + "px";
    const [g, W, H] = sheet(lines, 380, width), x = i => 48 + i * (W - 96) / Math.max(1, K + R - 1), T = 42, B = H - 24, scales = S.results.map(r => scale(r.values));
    const y = (i, j) => i < K ? B - (S.parameters[i].values.length < 2 ? .5 : S.parameters[i].at[j] / (S.parameters[i].values.length - 1)) * (B - T) + ((j * 7919 % 997) / 997 - .5) * 10 : B - scales[i - K](S.results[i - K].values[j]) * (B - T);
    const line = j => { g.beginPath(); for (let i = 0; i < K + R; i++) if (i) g.lineTo(x(i), y(i, j)); else g.moveTo(x(i), y(i, j)); g.stroke(); };
    g.lineWidth = .8; g.globalAlpha = Math.max(.06, Math.min(.4, 120 / N)); g.strokeStyle = colour("s0");
    for (let j = 0; j < N; j++) if (keep[j]) line(j);
    g.globalAlpha = .9; g.lineWidth = 1.3; g.strokeStyle = colour("ink"); best.forEach(line);
    g.globalAlpha = 1;
    if (marked >= 0) { g.strokeStyle = colour("s3"); g.lineWidth = 3; line(marked); }
    const label = (words, at, height) => { const wide = g.measureText(words).width; g.globalAlpha = .8; g.fillStyle = colour("panel"); g.fillRect(at - wide / 2 - 2, height - 10, wide + 4, 13); g.globalAlpha = 1; g.fillStyle = colour("ink"); g.fillText(words, at, height); };
    g.textAlign = "center";
    for (let i = 0; i < K + R; i++) {
      g.fillStyle = colour("quiet"); g.fillRect(x(i), T, 1, B - T);
      const name = i < K ? S.parameters[i].name : S.results[i - K].name, cut = i < K ? name.lastIndexOf(".") : name.lastIndexOf(" ");
      label(cut > 0 ? name.slice(0, cut).slice(-16) : "", x(i), 14); label(cut > 0 ? name.slice(cut + 1).slice(0, 16) : name.slice(0, 16), x(i), 28);
      if (i < K) { const values = S.parameters[i].values, every = Math.ceil(values.length / 12); values.forEach((value, q) => { if (q % every === 0) label(value.slice(0, 14), x(i), B - (values.length < 2 ? .5 : q / (values.length - 1)) * (B - T) + 4); }); }
      else { const r = S.results[i - K], v = r.values.filter(each => each !== null); label(told(Math.max(...v), r.unit), x(i), T + 4); label(told(Math.min(...v), r.unit), x(i), B + 14); }
    }
  }
  function redraw() {
    best = nobodyBeats(+across.value, +up.value);
    count.textContent = `${whole(keep.filter(Boolean).length)} of ${whole(N)} machines kept; ${whole(best.length)} that no other beats in ${S.results[+across.value].name} and ${S.results[+up.value].name}`;
    drawPoints(); drawLines();
    const table = $("#front table");
    if (table) [...table.tBodies[0].rows].forEach(row => { const j = S.ids.indexOf(row.dataset.key.slice(2)); row.hidden = j >= 0 && !keep[j]; });
  }
  const near = event => {
    const box = points.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let found = -1, least = 144;
    spots.forEach((spot, j) => { const d = (spot[0] - x) ** 2 + (spot[1] - y) ** 2; if (keep[j] && d < least) { least = d; found = j; } });
    return found;
  };
  const words = j => [S.ids[j], ...S.results.map(r => `${r.name}: ${told(r.values[j], r.unit)}`), ...S.parameters.map(p => `${p.name}: ${p.values[p.at[j]]}`)].join("\n");
  points.onpointermove = event => { const j = near(event); say(event, j >= 0 && words(j)); };
  points.onpointerleave = event => say(event, "");
  points.onclick = event => { const j = near(event); choose(j < 0 ? "" : key(j), "picture"); };
  points.onkeydown = event => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step || !best.length) return;
    event.preventDefault();
    const at = best.indexOf(marked);
    choose(key(best[at < 0 ? 0 : Math.max(0, Math.min(best.length - 1, at + step))]), "picture");
  };
  describe = chosenKey => {
    const j = S.ids.indexOf(chosenKey.slice(2));
    if (j < 0) return null;
    const pair = (name, ...value) => [make("dt", {textContent: name}), make("dd", {}, ...value)];
    const results = S.results.flatMap(r => pair(r.name, `${told(r.values[j], r.unit)}${r.values[N] ? `, ${(r.values[j] / r.values[N]).toPrecision(3)} of ${S.base}'s` : ""}`));
    const parameters = S.parameters.flatMap(p => pair(p.name, p.at[j] === p.at[N] ? p.values[p.at[j]] : make("b", {textContent: p.values[p.at[j]]})));
    const parts = [make("h2", {textContent: `Machine ${S.ids[j]}`}), make("dl", {}, ...results), make("h3", {textContent: `Parameters (bold: not ${S.base}'s)`}), make("dl", {}, ...parameters)];
    const file = S.files[S.ids[j]];
    if (file) {
      const save = make("button", {type: "button", textContent: `save ${S.ids[j]}.yaml`});
      save.onclick = () => { const link = make("a", {href: URL.createObjectURL(new Blob([file], {type: "application/yaml"})), download: `${S.ids[j]}.yaml`}); link.click(); URL.revokeObjectURL(link.href); };
      parts.push(make("h3", {textContent: "Arch file"}), save, make("p", {}, make("code", {textContent: `h2sim run ${S.ids[j]}.yaml ${S.trace}`})), make("pre", {tabIndex: 0}, make("code", {textContent: file})));
    } else if (onFront.has(j)) parts.push(make("p", {textContent: "On the front; its details below have the command for its arch file."}));
    return parts;
  };
  followers.push(chosenKey => { marked = chosenKey ? S.ids.indexOf(chosenKey.slice(2)) : -1; drawPoints(); drawLines(); });
  redraws.push(redraw);
  let later;
  new ResizeObserver(() => { clearTimeout(later); later = setTimeout(() => { drawPoints(); drawLines(); }, 30); }).observe(points);
  redraw();
  if (chosen) choose(chosen, "address");
}
if (DATA.sweep) explore(DATA.sweep);
