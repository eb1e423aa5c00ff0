-- exists of integer
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN 1 ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- absent of integer
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 2) THEN 2 WHEN (max(r.s0) = 3) THEN 3 ELSE 1 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND records.zw_w0 = 1) THEN 2 ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- valid of integer
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_f0 AS zw_f0, d.zw_t0 AS zw_t0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, ((since)) AS zw_f0, ((until)) AS zw_t0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = max(r.s0)) THEN min(r.s0) ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place)) THEN CASE WHEN (CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_f0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_f0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END IS NOT NULL AND CASE WHEN regexp_like(to_char(records.zw_t0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_t0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END IS NOT NULL) THEN CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_f0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_f0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END <= CAST(:as_of AS DATE) AND CAST(:as_of AS DATE) <= CASE WHEN regexp_like(to_char(records.zw_t0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_t0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END) THEN 1 WHEN (NOT (CASE WHEN regexp_like(to_char(records.zw_f0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_f0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END <= CAST(:as_of AS DATE) AND CAST(:as_of AS DATE) <= CASE WHEN regexp_like(to_char(records.zw_t0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_t0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END)) THEN 0 END END = 1) THEN 1 WHEN (CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_f0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_f0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END IS NOT NULL AND CASE WHEN regexp_like(to_char(records.zw_t0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_t0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END IS NOT NULL) THEN CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_f0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_f0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END <= CAST(:as_of AS DATE) AND CAST(:as_of AS DATE) <= CASE WHEN regexp_like(to_char(records.zw_t0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_t0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END) THEN 1 WHEN (NOT (CASE WHEN regexp_like(to_char(records.zw_f0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_f0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END <= CAST(:as_of AS DATE) AND CAST(:as_of AS DATE) <= CASE WHEN regexp_like(to_char(records.zw_t0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_t0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END)) THEN 0 END END != 1) THEN 2 ELSE 3 END ELSE 3 END AS s0
FROM records) r GROUP BY r.n
;
-- at_least of integer
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0, d.zw_v0 AS zw_v0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 WHEN (max(r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^(0|-?[1-9][0-9]{0,29})([.]0+)?$') THEN CAST(to_char(records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END >= CAST(records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 1 WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^(0|-?[1-9][0-9]{0,29})([.]0+)?$') THEN CAST(to_char(records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END < CAST(records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- at_least of decimal
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0, d.zw_v0 AS zw_v0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 WHEN (max(r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^-?[0-9]{1,30}([.][0-9]{1,30})?$') THEN CAST(to_char(records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END >= CAST(records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 1 WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^-?[0-9]{1,30}([.][0-9]{1,30})?$') THEN CAST(to_char(records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END < CAST(records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- at_least of date
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0, d.zw_v0 AS zw_v0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 WHEN (max(r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_v0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END >= CAST(records.v0 AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD')) THEN 1 WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_v0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END < CAST(records.v0 AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD')) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- at_most of integer
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0, d.zw_v0 AS zw_v0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 WHEN (max(r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^(0|-?[1-9][0-9]{0,29})([.]0+)?$') THEN CAST(to_char(records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END <= CAST(records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 1 WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^(0|-?[1-9][0-9]{0,29})([.]0+)?$') THEN CAST(to_char(records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END > CAST(records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- at_most of decimal
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0, d.zw_v0 AS zw_v0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 WHEN (max(r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^-?[0-9]{1,30}([.][0-9]{1,30})?$') THEN CAST(to_char(records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END <= CAST(records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 1 WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^-?[0-9]{1,30}([.][0-9]{1,30})?$') THEN CAST(to_char(records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END > CAST(records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- at_most of date
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0, d.zw_v0 AS zw_v0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 WHEN (max(r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_v0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END <= CAST(records.v0 AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD')) THEN 1 WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_v0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END > CAST(records.v0 AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD')) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- equals of integer
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0, d.zw_v0 AS zw_v0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 WHEN (max(r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^(0|-?[1-9][0-9]{0,29})([.]0+)?$') THEN CAST(to_char(records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END = CAST(records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 1 WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^(0|-?[1-9][0-9]{0,29})([.]0+)?$') THEN CAST(to_char(records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END != CAST(records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- equals of decimal
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0, d.zw_v0 AS zw_v0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 WHEN (max(r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^-?[0-9]{1,30}([.][0-9]{1,30})?$') THEN CAST(to_char(records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END = CAST(records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 1 WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^-?[0-9]{1,30}([.][0-9]{1,30})?$') THEN CAST(to_char(records.zw_v0) AS NUMBER DEFAULT NULL ON CONVERSION ERROR) END != CAST(records.v0 AS NUMBER DEFAULT NULL ON CONVERSION ERROR)) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- equals of date
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0, d.zw_v0 AS zw_v0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 WHEN (max(r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_v0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END = CAST(records.v0 AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD')) THEN 1 WHEN (CASE WHEN regexp_like(to_char(records.zw_v0), '^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?)?$') THEN CAST(substr(to_char(records.zw_v0), 1, 10) AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD') END != CAST(records.v0 AS DATE DEFAULT NULL ON CONVERSION ERROR, 'YYYY-MM-DD')) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- equals of text
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0, d.zw_v0 AS zw_v0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 WHEN (max(r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN (CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.v0, (chr(31) || CAST(records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.v0, (chr(31) || CAST(records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) THEN 1 WHEN (CASE WHEN (CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.v0, (chr(31) || CAST(records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.v0, (chr(31) || CAST(records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END != 1) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- equals of code
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0, d.zw_v0 AS zw_v0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 WHEN (max(r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN (CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.v0, (chr(31) || CAST(records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.v0, (chr(31) || CAST(records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) THEN 1 WHEN (CASE WHEN (CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.v0, (chr(31) || CAST(records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.v0, (chr(31) || CAST(records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END != 1) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
-- related of person
WITH k AS
(SELECT CAST(:n0 AS INTEGER) AS n, CAST(:k0 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL UNION ALL SELECT CAST(:n1 AS INTEGER) AS n, CAST(:k1 AS VARCHAR2(4000 CHAR)) AS k FROM DUAL),
a AS
(SELECT 0 AS n, CAST(:name0 AS VARCHAR2(4000 CHAR)) AS name, CAST(:place0 AS VARCHAR2(4000 CHAR)) AS place, CAST(:v0_0 AS VARCHAR2(4000 CHAR)) AS v0 FROM DUAL),
records AS
(SELECT /*+ MATERIALIZE */ a.n AS n, a.name AS name, a.place AS place, a.v0 AS v0, d.zw_name AS zw_name, d.zw_region AS zw_region, d.zw_w0 AS zw_w0, d.zw_v0 AS zw_v0
FROM k JOIN (SELECT id_card AS zw_subject, full_name AS zw_name, region AS zw_region, CASE WHEN ((voided = 0)) THEN 1 WHEN (NOT ((voided = 0))) THEN 0 END AS zw_w0, ((v)) AS zw_v0
FROM (SELECT * FROM ins.person WHERE paid_on <= :as_of) zw_data
WHERE id_card IN (:k0, :k1)) d ON d.zw_subject = k.k AND utl_raw.cast_to_raw(CAST(d.zw_subject AS VARCHAR2(4000 CHAR))) = utl_raw.cast_to_raw(CAST(k.k AS VARCHAR2(4000 CHAR))) JOIN a ON a.n = k.n)
 SELECT r.n, CASE WHEN (min(r.s0) = 1) THEN 1 WHEN (max(r.s0) = 2) THEN 2 ELSE 3 END AS anon_1
FROM (SELECT records.n AS n, CASE WHEN (records.zw_w0 != 1) THEN NULL ELSE CASE WHEN ((records.name IS NULL OR CASE WHEN (CAST(records.zw_name AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_name AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.name, (chr(31) || CAST(records.zw_name AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) AND utl_raw.cast_to_raw(substr(chr(31) || CAST(records.zw_region AS VARCHAR2(4000 CHAR)), 1, length(records.place))) = utl_raw.cast_to_raw(records.place) AND records.zw_w0 = 1) THEN CASE WHEN (CASE WHEN (CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.v0, (chr(31) || CAST(records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.v0, (chr(31) || CAST(records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END = 1) THEN 1 WHEN (CASE WHEN (CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)) IS NOT NULL) THEN CASE WHEN (instrb(CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.v0, (chr(31) || CAST(records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0) THEN 1 WHEN (NOT (instrb(CAST(records.zw_v0 AS VARCHAR2(4000 CHAR)), chr(31)) = 0 AND instrb(records.v0, (chr(31) || CAST(records.zw_v0 AS VARCHAR2(4000 CHAR))) || chr(31)) > 0)) THEN 0 END END != 1) THEN 2 ELSE 3 END ELSE 3 END END AS s0
FROM records) r GROUP BY r.n
;
