// Draws each lane from its full data, reduced to what the screen can show, and anew when somebody zooms.
"use strict";
const GAP = 3, SILENT = 0;
const player = document.querySelector("audio");

function decode(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Kind(bytes.buffer);
}

function unpack(lane) {
  lane.start = decode(lane.start, Float32Array);
  lane.end = decode(lane.end, Float32Array);
  lane.state = decode(lane.state, Uint8Array);
  lane.scores = decode(lane.scores, Uint8Array);
  lane.arousal = decode(lane.arousal, Int8Array);
  lane.valence = decode(lane.valence, Int8Array);
  lane.level = decode(lane.level, Int8Array);
  return lane;
}

// The first row that ends after a time.
function firstAfter(ends, time) {
  let low = 0, high = ends.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ends[middle] > time) high = middle; else low = middle + 1;
  }
  return low;
}

// Means over `bins` equal parts of a view: of speech alone; a part without speech has none. Each stands where its part
// begins, and the last before a part without once more where it ends: a line has two ends.
function reduce(lane, from, to, bins) {
  const n = lane.labels.length, width = (to - from) / bins;
  const x = [], scores = lane.labels.map(() => []), arousal = [], valence = [], level = [];
  const columns = [...scores, arousal, valence, level];
  const push = (at, means) => { x.push(at); columns.forEach((column, j) => column.push(means[j])); };
  let row = firstAfter(lane.end, from), before = columns.map(() => null);
  for (let bin = 0; bin < bins; bin++) {
    const begin = from + bin * width, end = begin + width;
    const sums = new Float64Array(n + 2);
    let spoken = 0, heard = 0, loud = 0, k = row;
    for (; k < lane.end.length && lane.start[k] < end; k++) {
      const share = Math.min(lane.end[k], end) - Math.max(lane.start[k], begin);
      if (share <= 0) continue;
      if (lane.level[k] > -128) { loud += lane.level[k] * share; heard += share; }
      if (lane.state[k] === SILENT || lane.state[k] === GAP) continue;
      for (let j = 0; j < n; j++) sums[j] += lane.scores[k * n + j] / 250 * share;
      sums[n] += lane.arousal[k] / 100 * share;
      sums[n + 1] += lane.valence[k] / 100 * share;
      spoken += share;
    }
    while (row < lane.end.length && lane.end[row] <= end) row++;
    const means = [...sums].map((sum) => spoken ? sum / spoken : null);
    means.push(heard ? loud / heard : null);
    if (means.some((mean, j) => mean === null && before[j] !== null)) push(begin, before);
    push(begin, means);
    before = means;
  }
  push(to, before);
  return { x, scores, arousal, valence, level };
}

function clock(seconds) {
  const s = Math.floor(seconds % 60), m = Math.floor(seconds / 60) % 60, h = Math.floor(seconds / 3600);
  return (h ? h + ":" + String(m).padStart(2, "0") : m) + ":" + String(s).padStart(2, "0");
}

function ticks(from, to) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600];
  const step = steps.find((s) => (to - from) / s <= 9) || 43200;
  const at = [];
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) at.push(t);
  return { tickvals: at, ticktext: at.map(clock) };
}

function traces(lane, view) {
  const common = { x: view.x, type: "scatter", mode: "lines", hoverinfo: "x+y+name" };
  // Nothing but the first line under the pointer: Plotly's own is in seconds.
  const text = view.x.map((at) => clock(at) + "." + Math.floor(10 * (at % 1)));
  const found = ["y", "y2", "y3", "y4", ...(lane.pitch ? ["y6"] : [])].map((yaxis) => ({
    ...common, yaxis, y: text.map(() => 0), text, hovertemplate: "<b>%{text}</b><extra></extra>", name: "time",
    showlegend: false, line: { width: 0 },
  }));
  lane.labels.forEach((label, i) => found.push({
    ...common, name: label, legendgroup: label, stackgroup: "all", y: view.scores[i].map((v) => v === null ? 0 : v),
    line: { width: 0, shape: "hv", color: lane.colours[i] }, fillcolor: lane.colours[i], yaxis: "y",
    text: view.scores[i].map((v) => v === null ? "" : (100 * v).toFixed(0) + "%"), hovertemplate: "%{text}",
  }));
  lane.labels.forEach((label, i) => found.push({
    ...common, name: label, legendgroup: label, showlegend: false, y: view.scores[i], yaxis: "y2",
    line: { width: 1.5, shape: "hv", color: lane.colours[i] }, hovertemplate: "%{y:.0%}",
  }));
  found.push({ ...common, name: "arousal", y: view.arousal, yaxis: "y3", line: { color: "#e5484d", shape: "hv" } });
  found.push({ ...common, name: "valence", y: view.valence, yaxis: "y3", line: { color: "#3b82f6", shape: "hv" } });
  found.push({ ...common, name: "level", y: view.level, yaxis: "y4", line: { color: "#9aa1ac", shape: "hv", width: 1 } });
  if (lane.gaps.length) {
    const x = lane.gaps.flatMap((gap) => [gap.start, gap.end, gap.end, gap.start, null]);
    const y = lane.gaps.flatMap(() => [0, 0, 1, 1, null]);
    for (const yaxis of ["y", "y2"]) {
      found.push({
        x, y, yaxis, name: "lost", type: "scatter", mode: "none", fill: "toself", hoverinfo: "skip",
        showlegend: yaxis === "y", legendgroup: "lost",
        fillpattern: { shape: "/", fgcolor: "#e5484d", bgcolor: "rgba(0,0,0,0)", size: 8, solidity: .2 },
      });
    }
  }
  if (lane.pitch) {
    found.push({
      ...common, name: "pitch", x: lane.pitch.x, y: lane.pitch.y, yaxis: "y6", hovertemplate: "%{y:.0f} Hz",
      line: { color: "#12a594", width: 1.5 },
    });
  }
  return found;
}

function layout(lane, from, to) {
  const style = getComputedStyle(document.body);
  const ink = style.getPropertyValue("--ink"), line = style.getPropertyValue("--line");
  const narrow = window.innerWidth < 600, image = Boolean(lane.spectrogram);
  const rows = image ? [[.77, 1], [.56, .74], [.39, .53], [.28, .36], [0, .25]] : [[.66, 1], [.37, .62], [.14, .33], [0, .1]];
  const axis = (row, title, more) => ({
    domain: rows[row], title: { text: title, font: { size: 11 } }, gridcolor: line, zeroline: false, fixedrange: true, ...more,
  });
  const flags = lane.markers.map((marker) => ({
    x: marker.at, y: 1, xref: "x", yref: "paper", text: "⚑ " + marker.text, showarrow: true, arrowhead: 0, ay: -18, ax: 0,
    font: { size: 11 },
  })).concat(lane.gaps.slice(0, 200).map((gap) => ({
    x: (gap.start + gap.end) / 2, y: .5, xref: "x", yref: "paper", text: "▨ " + gap.text, showarrow: false, textangle: -90,
    font: { size: 10, color: "#e5484d" },
  })));
  const found = {
    height: image ? 760 : 560, margin: { l: 48, r: 12, t: 64, b: 30 }, paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12 }, hovermode: "x unified",
    hoverlabel: { bgcolor: style.getPropertyValue("--paper"), font: { color: ink } },
    showlegend: true, legend: { orientation: "h", y: narrow ? 1.03 : 1.07, yanchor: "bottom", font: { size: narrow ? 10 : 12 } },
    dragmode: "zoom", annotations: flags,
    xaxis: {
      range: [from, to], gridcolor: line, zeroline: false, anchor: image ? "y5" : "y4", unifiedhovertitle: { text: " " },
      ...ticks(from, to),
    },
    yaxis: axis(0, "all", { range: [0, 1], tickformat: ".0%" }),
    yaxis2: axis(1, "each", { range: [0, 1], tickformat: ".0%" }),
    yaxis3: axis(2, "affect", { range: [-1, 1] }),
    yaxis4: axis(3, "dBFS", { range: [-80, 0] }),
  };
  if (image) {
    found.yaxis5 = axis(4, "mel band", { range: [0, 1], showticklabels: false });
    found.yaxis6 = { overlaying: "y5", side: "right", range: [0, 500], fixedrange: true, showgrid: false, showticklabels: false };
    found.images = [{
      source: lane.spectrogram, xref: "x", yref: "y5", x: 0, y: 1, sizex: lane.heard, sizey: 1, sizing: "stretch",
      layer: "below",
    }];
  }
  return found;
}

function draw(lane, place) {
  const bins = Math.max(100, Math.min(900, place.clientWidth - 60));
  let view = [0, lane.duration];
  const paint = () => Plotly.react(place, traces(lane, reduce(lane, view[0], view[1], bins)), layout(lane, ...view), {
    responsive: true, displaylogo: false, displayModeBar: window.innerWidth < 600 ? false : "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  });
  paint().then(() => {
    place.on("plotly_relayout", (change) => {
      let next = view;
      if (change["xaxis.autorange"] || change["xaxis.range[0]"] === null) next = [0, lane.duration];
      else if (change["xaxis.range[0]"] !== undefined) next = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      next = [Math.max(0, next[0]), Math.min(lane.duration, next[1])];
      if (next[0] === view[0] && next[1] === view[1] || next[1] - next[0] < 0.5) return;
      view = next;
      paint();
    });
    place.on("plotly_doubleclick", () => { view = [0, lane.duration]; paint(); return false; });
    if (player) {
      place.on("plotly_click", (event) => { player.currentTime = event.points[0].x; });
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  return (seconds) => {
    const axis = place._fullLayout && place._fullLayout.xaxis, cursor = place.parentElement.querySelector(".cursor");
    const inside = axis && seconds >= view[0] && seconds <= view[1];
    cursor.style.display = inside ? "block" : "none";
    if (inside) cursor.style.left = (axis._offset + axis.l2p(seconds)) + "px";
  };
}

const cursors = LANES.map((lane, i) => draw(unpack(lane), document.getElementById("lane" + i)));
if (player) {
  const follow = () => {
    cursors.forEach((move) => move(player.currentTime));
    if (!player.paused) requestAnimationFrame(follow);
  };
  for (const event of ["play", "seeked", "timeupdate"]) player.addEventListener(event, follow);
}
