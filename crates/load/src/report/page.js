"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  for (const time of document.querySelectorAll("time[data-ms]")) {
    const date = new Date(Number(time.dataset.ms));
    time.dateTime = date.toISOString();
    time.textContent = date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
  const timeline = document.getElementById("timeline");
  const cursor = document.getElementById("cursor");
  const lanes = [...document.querySelectorAll("[data-lane]")].map((element) => {
    const lane = data.lanes[element.dataset.lane];
    const outputs = [...element.querySelectorAll("[data-series]")];
    return { lane, outputs, resting: outputs.map((output) => output.textContent), plot: element.querySelector(".plot") };
  });
  if (!lanes.length) return;
  const digits = (v) => String(Number(Math.abs(v) >= 1000 ? v.toFixed(0) : v.toPrecision(3)));
  const scaled = (v, thousand, suffixes) => {
    let i = 0;
    while (Math.abs(v) >= thousand && i + 1 < suffixes.length) { v /= thousand; i += 1; }
    return digits(v) + suffixes[i];
  };
  const units = {
    count: (v) => scaled(v, 1000, ["", " k", " M", " G"]),
    rate: (v) => scaled(v, 1000, ["/s", " k/s", " M/s", " G/s"]),
    seconds: (v) => (v && v < 1 ? digits(v * 1000) + " ms" : digits(v) + " s"),
    share: (v) => digits(v * 100) + " %",
    bytes: (v) => scaled(v, 1024, [" B", " KiB", " MiB", " GiB"]),
  };
  const at = (points, t) => {
    let low = 0, high = points.length;
    while (low < high) { const mid = (low + high) >> 1; if (points[mid][0] <= t) low = mid + 1; else high = mid; }
    return low ? points[low - 1][1] : null;
  };
  const show = (t) => {
    const box = lanes[0].plot.getBoundingClientRect();
    const share = (t - data.first) / (data.last - data.first);
    cursor.hidden = false;
    cursor.style.left = box.left - timeline.getBoundingClientRect().left - 1 + share * box.width + "px";
    cursor.classList.toggle("left", share > 0.8);
    cursor.firstElementChild.textContent = "+" + ((t - data.first) / 1000).toFixed(1) + " s";
    for (const { lane, outputs } of lanes) {
      outputs.forEach((output, i) => {
        const value = at(lane.series[i], t);
        output.textContent = value === null ? "–" : units[lane.unit](value);
      });
    }
  };
  const rest = () => {
    cursor.hidden = true;
    for (const { outputs, resting } of lanes) outputs.forEach((output, i) => { output.textContent = resting[i]; });
  };
  timeline.addEventListener("pointermove", (event) => {
    const box = lanes[0].plot.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    if (share < 0 || share > 1) rest();
    else show(data.first + share * (data.last - data.first));
  });
  timeline.addEventListener("pointerleave", rest);
  timeline.tabIndex = 0;
  let keyed = data.first;
  timeline.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1000, ArrowRight: 1000 }[event.key];
    if (!step) return;
    event.preventDefault();
    keyed = Math.min(data.last, Math.max(data.first, keyed + step));
    show(keyed);
  });
  timeline.addEventListener("blur", rest);
})();
