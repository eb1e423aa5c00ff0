-- exists of integer
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN 1 ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- absent of integer
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 2) THEN 2 WHEN (max(zw_r.s0) = 3) THEN 3 ELSE 1 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND zw_records.zw_w0 = 1) THEN 2 ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- valid of integer
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_f0 AS zw_f0, zw_d.zw_t0 AS zw_t0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, ((since)) AS zw_f0, ((until)) AS zw_t0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = max(zw_r.s0)) THEN min(zw_r.s0) ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place)) THEN CASE WHEN (CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_f0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_f0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END IS NOT NULL AND CASE WHEN regexp_like(to_char(zw_records.zw_t0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_t0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END IS NOT NULL) THEN CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_f0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_f0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END <= CAST(:as_of AS DATE) AND CAST(:as_of AS DATE) <= CASE WHEN regexp_like(to_char(zw_records.zw_t0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_t0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END) THEN 1 WHEN (NOT (CASE WHEN regexp_like(to_char(zw_records.zw_f0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_f0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END <= CAST(:as_of AS DATE) AND CAST(:as_of AS DATE) <= CASE WHEN regexp_like(to_char(zw_records.zw_t0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_t0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END)) THEN 0 END END = 1) THEN 1 WHEN (CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_f0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_f0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END IS NOT NULL AND CASE WHEN regexp_like(to_char(zw_records.zw_t0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_t0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END IS NOT NULL) THEN CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_f0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_f0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END <= CAST(:as_of AS DATE) AND CAST(:as_of AS DATE) <= CASE WHEN regexp_like(to_char(zw_records.zw_t0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_t0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END) THEN 1 WHEN (NOT (CASE WHEN regexp_like(to_char(zw_records.zw_f0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_f0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END <= CAST(:as_of AS DATE) AND CAST(:as_of AS DATE) <= CASE WHEN regexp_like(to_char(zw_records.zw_t0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_t0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END)) THEN 0 END END != 1) THEN 2 ELSE 3 END ELSE 3 END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- at_least of integer
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0, zw_d.zw_v0 AS zw_v0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 WHEN (max(zw_r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^(0|-?[1-9][0-9]{0,29})([.]0+)?$') THEN CAST(to_char(zw_records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END >= CAST(zw_records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 1 WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^(0|-?[1-9][0-9]{0,29})([.]0+)?$') THEN CAST(to_char(zw_records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END < CAST(zw_records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- at_least of decimal
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0, zw_d.zw_v0 AS zw_v0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 WHEN (max(zw_r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^-?[0-9]{1,30}([.][0-9]{1,30})?$') THEN CAST(to_char(zw_records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END >= CAST(zw_records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 1 WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^-?[0-9]{1,30}([.][0-9]{1,30})?$') THEN CAST(to_char(zw_records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END < CAST(zw_records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- at_least of date
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0, zw_d.zw_v0 AS zw_v0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 WHEN (max(zw_r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_v0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END >= CAST(zw_records.v0 AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD')) THEN 1 WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_v0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END < CAST(zw_records.v0 AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD')) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- at_most of integer
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0, zw_d.zw_v0 AS zw_v0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 WHEN (max(zw_r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^(0|-?[1-9][0-9]{0,29})([.]0+)?$') THEN CAST(to_char(zw_records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END <= CAST(zw_records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 1 WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^(0|-?[1-9][0-9]{0,29})([.]0+)?$') THEN CAST(to_char(zw_records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END > CAST(zw_records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- at_most of decimal
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0, zw_d.zw_v0 AS zw_v0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 WHEN (max(zw_r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^-?[0-9]{1,30}([.][0-9]{1,30})?$') THEN CAST(to_char(zw_records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END <= CAST(zw_records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 1 WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^-?[0-9]{1,30}([.][0-9]{1,30})?$') THEN CAST(to_char(zw_records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END > CAST(zw_records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- at_most of date
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0, zw_d.zw_v0 AS zw_v0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 WHEN (max(zw_r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_v0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END <= CAST(zw_records.v0 AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD')) THEN 1 WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_v0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END > CAST(zw_records.v0 AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD')) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- equals of integer
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0, zw_d.zw_v0 AS zw_v0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 WHEN (max(zw_r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^(0|-?[1-9][0-9]{0,29})([.]0+)?$') THEN CAST(to_char(zw_records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END = CAST(zw_records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 1 WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^(0|-?[1-9][0-9]{0,29})([.]0+)?$') THEN CAST(to_char(zw_records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END != CAST(zw_records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- equals of decimal
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0, zw_d.zw_v0 AS zw_v0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 WHEN (max(zw_r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^-?[0-9]{1,30}([.][0-9]{1,30})?$') THEN CAST(to_char(zw_records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END = CAST(zw_records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 1 WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^-?[0-9]{1,30}([.][0-9]{1,30})?$') THEN CAST(to_char(zw_records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END != CAST(zw_records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- equals of date
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0, zw_d.zw_v0 AS zw_v0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 WHEN (max(zw_r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_v0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END = CAST(zw_records.v0 AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD')) THEN 1 WHEN (CASE WHEN regexp_like(to_char(zw_records.zw_v0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(zw_records.zw_v0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END != CAST(zw_records.v0 AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD')) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- equals of text
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0, zw_d.zw_v0 AS zw_v0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 WHEN (max(zw_r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN (CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.v0, (chr(31) || CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.v0, (chr(31) || CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) THEN 1 WHEN (CASE WHEN (CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.v0, (chr(31) || CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.v0, (chr(31) || CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END != 1) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- equals of code
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0, zw_d.zw_v0 AS zw_v0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 WHEN (max(zw_r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN (CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.v0, (chr(31) || CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.v0, (chr(31) || CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) THEN 1 WHEN (CASE WHEN (CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.v0, (chr(31) || CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.v0, (chr(31) || CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END != 1) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
-- related of person
WITH zw_k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
zw_a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
zw_records AS
(SELECT /*+ MATERIALIZE */ zw_a.n AS n, zw_a.name AS name, zw_a.place AS place, zw_a.v0 AS v0, zw_d.zw_name AS zw_name, zw_d.zw_region AS zw_region, zw_d.zw_w0 AS zw_w0, zw_d.zw_v0 AS zw_v0
FROM zw_k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) zw_d ON zw_d.zw_subject = zw_k.k AND utl_raw.cast_to_raw(CAST(zw_d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(zw_k.k AS VARCHAR2(4000 CHAR))) JOIN zw_a ON zw_a.n = zw_k.n)
 SELECT zw_r.n, CASE WHEN (min(zw_r.s0) = 1) THEN 1 WHEN (max(zw_r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT zw_records.n AS n, CASE WHEN (zw_records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((zw_records.name IS NULL OR CASE WHEN (CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.name, (chr(31) || CAST(zw_records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(zw_records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(zw_records.place))) = utl_raw.cast_to_raw(zw_records.place) AND zw_records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN (CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.v0, (chr(31) || CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.v0, (chr(31) || CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) THEN 1 WHEN (CASE WHEN (CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.v0, (chr(31) || CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(zw_records.v0, (chr(31) || CAST(zw_records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END != 1) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM zw_records) zw_r GROUP BY zw_r.n
;
