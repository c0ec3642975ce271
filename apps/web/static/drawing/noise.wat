;; Standard Gumbel noise from Philox 4x64-10 (Salmon et al. 2011), number for number what amused_lite/sampling/noise.py
;; gives. Assembled with wasmtime's wat2wasm; tests/apps/web holds noise.wasm against this text and against NumPy.
(module
  (memory (export "memory") 1)
  (global $ONES i64 (i64.const 0xffffffff))

  ;; The upper half of an unsigned 64 x 64 bit product.
  (func $multiply_high (param $a i64) (param $b i64) (result i64)
    (local $a1 i64) (local $b1 i64) (local $middle i64)
    (local.set $a1 (i64.shr_u (local.get $a) (i64.const 32)))
    (local.set $b1 (i64.shr_u (local.get $b) (i64.const 32)))
    (local.set $a (i64.and (local.get $a) (global.get $ONES)))
    (local.set $b (i64.and (local.get $b) (global.get $ONES)))
    (local.set $middle (i64.add
      (i64.mul (local.get $a1) (local.get $b))
      (i64.shr_u (i64.mul (local.get $a) (local.get $b)) (i64.const 32))))
    (i64.add
      (i64.add (i64.mul (local.get $a1) (local.get $b1)) (i64.shr_u (local.get $middle) (i64.const 32)))
      (i64.shr_u
        (i64.add (i64.mul (local.get $a) (local.get $b1)) (i64.and (local.get $middle) (global.get $ONES)))
        (i64.const 32))))

  ;; a * b + c rounded to float32 as a fused multiply-add rounds it: the product of two float32 is exact in float64.
  (func $fused (param $a v128) (param $b v128) (param $c f64) (result v128)
    (f64x2.promote_low_f32x4 (f32x4.demote_f64x2_zero
      (f64x2.add (f64x2.mul (local.get $a) (local.get $b)) (f64x2.splat (local.get $c))))))

  ;; -log(x) of two float32, as NumPy's vector kernels compute it (a quotient of polynomials around 1).
  (func $negative_log (param $x v128) (result v128)
    (local $exponent v128) (local $small v128) (local $m v128) (local $p v128) (local $q v128)
    (local.set $exponent (i32x4.sub (i32x4.shr_u (local.get $x) (i32.const 23)) (i32x4.splat (i32.const 126))))
    (local.set $m (v128.or
      (v128.and (local.get $x) (i32x4.splat (i32.const 0x7fffff)))
      (i32x4.splat (i32.const 0x3f000000))))
    ;; From [0.5, 1) to [sqrt(0.5), sqrt(2)); a comparison that holds is -1.
    (local.set $small (f32x4.le (local.get $m) (f32x4.splat (f32.const 0.70710678))))
    (local.set $exponent (i32x4.add (local.get $exponent) (local.get $small)))
    (local.set $m (f32x4.add (local.get $m) (v128.and (local.get $m) (local.get $small))))
    (local.set $m (f64x2.promote_low_f32x4 (f32x4.sub (local.get $m) (f32x4.splat (f32.const 1)))))
    (local.set $p (f64x2.splat (f64.promote_f32 (f32.const 2.589979117907922693523e-02))))
    (local.set $p (call $fused (local.get $p) (local.get $m) (f64.promote_f32 (f32.const 3.808837741388407920751e-01))))
    (local.set $p (call $fused (local.get $p) (local.get $m) (f64.promote_f32 (f32.const 1.480000633576506585156))))
    (local.set $p (call $fused (local.get $p) (local.get $m) (f64.promote_f32 (f32.const 2.112677543073053063722))))
    (local.set $p (call $fused (local.get $p) (local.get $m) (f64.promote_f32 (f32.const 9.999999999999998702752e-01))))
    (local.set $p (call $fused (local.get $p) (local.get $m) (f64.const 0)))
    (local.set $q (f64x2.splat (f64.promote_f32 (f32.const 5.875095403124574342950e-03))))
    (local.set $q (call $fused (local.get $q) (local.get $m) (f64.promote_f32 (f32.const 1.546476374983906719538e-01))))
    (local.set $q (call $fused (local.get $q) (local.get $m) (f64.promote_f32 (f32.const 9.864942958519418960339e-01))))
    (local.set $q (call $fused (local.get $q) (local.get $m) (f64.promote_f32 (f32.const 2.453006071784736363091))))
    (local.set $q (call $fused (local.get $q) (local.get $m) (f64.promote_f32 (f32.const 2.612677543073109236779))))
    (local.set $q (call $fused (local.get $q) (local.get $m) (f64.const 1)))
    (f32x4.neg (f32x4.demote_f64x2_zero (f64x2.add
      (f64x2.mul
        (f64x2.convert_low_i32x4_s (local.get $exponent))
        (f64x2.splat (f64.promote_f32 (f32.const 0.6931471805599453))))
      (f64x2.promote_low_f32x4
        (f32x4.div (f32x4.demote_f64x2_zero (local.get $p)) (f32x4.demote_f64x2_zero (local.get $q))))))))

  ;; Two numbers of the noise from 64 random bits, at `out`: -log(-log(u)) of 23 bits each.
  (func $store (param $out i32) (param $bits i64)
    (local $u v128)
    (local.set $u (f32x4.convert_i32x4_u (i32x4.shr_u (i64x2.splat (local.get $bits)) (i32.const 9))))
    (local.set $u (f32x4.mul
      (f32x4.add (local.get $u) (f32x4.splat (f32.const 0.5)))
      (f32x4.splat (f32.const 0x1p-23))))
    (v128.store64_lane 0 (local.get $out) (call $negative_log (call $negative_log (local.get $u)))))

  ;; Write the numbers of `blocks` counts, eight each, from byte `out` on. The first count is `counter` + 1, as NumPy's.
  (func (export "gumbel") (param $key0 i64) (param $key1 i64) (param $counter i64) (param $counter_top i64)
    (param $out i32) (param $blocks i32)
    (local $c0 i64) (local $c1 i64) (local $c2 i64) (local $c3 i64) (local $k0 i64) (local $k1 i64)
    (local $high0 i64) (local $high1 i64) (local $end i32) (local $round i32)
    (local.set $end (i32.add (local.get $out) (i32.mul (local.get $blocks) (i32.const 32))))
    (loop $block
      (if (i32.lt_u (local.get $out) (local.get $end)) (then
        (local.set $counter (i64.add (local.get $counter) (i64.const 1)))
        (local.set $c0 (local.get $counter))
        (local.set $c1 (i64.const 0))
        (local.set $c2 (i64.const 0))
        (local.set $c3 (local.get $counter_top))
        (local.set $k0 (local.get $key0))
        (local.set $k1 (local.get $key1))
        (local.set $round (i32.const 10))
        (loop $rounds
          (local.set $high0 (call $multiply_high (local.get $c0) (i64.const 0xd2e7470ee14c6c93)))
          (local.set $high1 (call $multiply_high (local.get $c2) (i64.const 0xca5a826395121157)))
          (local.set $high1 (i64.xor (i64.xor (local.get $high1) (local.get $c1)) (local.get $k0)))
          (local.set $high0 (i64.xor (i64.xor (local.get $high0) (local.get $c3)) (local.get $k1)))
          (local.set $c1 (i64.mul (local.get $c2) (i64.const 0xca5a826395121157)))
          (local.set $c3 (i64.mul (local.get $c0) (i64.const 0xd2e7470ee14c6c93)))
          (local.set $c0 (local.get $high1))
          (local.set $c2 (local.get $high0))
          (local.set $k0 (i64.add (local.get $k0) (i64.const 0x9e3779b97f4a7c15)))
          (local.set $k1 (i64.add (local.get $k1) (i64.const 0xbb67ae8584caa73b)))
          (br_if $rounds (local.tee $round (i32.sub (local.get $round) (i32.const 1)))))
        (call $store (local.get $out) (local.get $c0))
        (call $store (i32.add (local.get $out) (i32.const 8)) (local.get $c1))
        (call $store (i32.add (local.get $out) (i32.const 16)) (local.get $c2))
        (call $store (i32.add (local.get $out) (i32.const 24)) (local.get $c3))
        (local.set $out (i32.add (local.get $out) (i32.const 32)))
        (br $block)))))
)
